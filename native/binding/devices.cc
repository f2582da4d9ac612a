// Contexts, and what can be looked at from outside.
#include "../core/descriptor.h"
#include "objects.h"

namespace binding {

using core::Context;
using core::SharedMemory;
using Napi::CallbackInfo;

namespace {

constexpr double kMostThreads = 256;

napi_value openContext(const CallbackInfo& info) {
  const napi_env env = info.Env();
  Client& client = clientOf(info);
  std::string path;
  uint64_t threads, bytes;
  if (!readPath(info, 0, path)) return badArgument(env, "path");
  if (!readUint(env, info[1], kMostThreads, threads) || threads == 0) return badArgument(env, "threads");
  if (!readUint(env, info[2], kMaxSafe, bytes)) return badArgument(env, "temporaryBytes");
  if (!info[3].IsBoolean()) return badArgument(env, "registration");
  auto context =
      Context::open(path.c_str(), static_cast<unsigned>(threads), bytes, info[3].As<Napi::Boolean>());
  if (!context.ok()) return makeFailure(env, context.failure());
  const uapi::tee_ioctl_version_data& version = context.value()->version();
  Napi::Object object = Napi::Object::New(env);
  object.Set("implementationId", version.impl_id);
  object.Set("implementationCapabilities", version.impl_caps);
  object.Set("generalCapabilities", version.gen_caps);
  client.addContext(context.value());
  const double handle = client.handles.add(context.value());
  if (handle == 0) return noHandleLeft(env);
  object.Set("context", handle);
  return object;
}

// Sessions and memory of a context are closed with it.
bool belongsTo(const Entry& entry, const Context* context) {
  return (entry.kind == Kind::session && entry.as<core::Session>()->context.get() == context) ||
         (entry.kind == Kind::sharedMemory && entry.as<SharedMemory>()->context().get() == context);
}

napi_value closeContext(const CallbackInfo& info) {
  const napi_env env = info.Env();
  Client& client = clientOf(info);
  Entry* entry = client.handles.find<Context>(readHandle(env, info[0]));
  if (entry == nullptr) return Napi::Number::New(env, 0);
  const auto context = std::static_pointer_cast<Context>(entry->object);
  client.close(env, *entry);
  for (Entry& child : client.handles.entries()) {
    if (belongsTo(child, context.get())) client.close(env, child);
  }
  auto call = std::make_unique<core::Call>(core::Call::Kind::closeContext, context);
  const uint32_t ticket = client.enter(*call);
  client.callStarted(env);
  context->close(std::move(call));
  return Napi::Number::New(env, ticket);
}

napi_value describeDescriptor(const CallbackInfo& info) {
  int fd;
  Napi::Object object = Napi::Object::New(info.Env());
  const bool open = readFd(info.Env(), info[0], fd) && core::isOpen(fd);
  object.Set("open", open);
  if (open) {
    const std::string link = core::linkOf(fd);
    if (!link.empty()) object.Set("link", link);
  }
  return object;
}

napi_value hasRegisterDmaBuf(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info.Env(), info[0]));
  return Napi::Boolean::New(info.Env(), context && core::hasShmRegisterFd(context->fd()));
}

napi_value contextStatistics(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info.Env(), info[0]));
  if (!context) return undefined(info.Env());
  const core::ContextStatistics statistics = context->statistics();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("sessions", static_cast<double>(statistics.sessions));
  object.Set("threads", statistics.threads);
  object.Set("temporarySlots", static_cast<double>(statistics.temporary.slots));
  object.Set("temporaryBytes", static_cast<double>(statistics.temporary.bytes));
  object.Set("temporaryRegistrations", static_cast<double>(statistics.temporary.registrations));
  return object;
}

}  // namespace

const NamedFunction kDeviceFunctions[5] = {
    {"openContext", wrap<openContext>},
    {"closeContext", wrap<closeContext>},
    {"describeDescriptor", wrap<describeDescriptor>},
    {"hasRegisterDmaBuf", wrap<hasRegisterDmaBuf>},
    {"contextStatistics", wrap<contextStatistics>},
};

}  // namespace binding
