// Contexts, and what can be looked at from outside.
#include "../core/dma.h"
#include "client.h"
#include "values.h"

namespace binding {

using core::Context;
using core::SharedMemory;
using Napi::CallbackInfo;

namespace {

constexpr double kMostThreads = 256;

Napi::Value openContext(const CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Client& client = clientOf(info);
  std::string path;
  uint64_t threads, bytes;
  if (!readPath(info[0], path)) return badArgument(env, "path");
  if (!readUint(info[1], kMostThreads, threads) || threads == 0) return badArgument(env, "threads");
  if (!readUint(info[2], kMaxSafe, bytes)) return badArgument(env, "temporaryBytes");
  if (!info[3].IsBoolean()) return badArgument(env, "registration");
  auto context =
      Context::open(path.c_str(), static_cast<unsigned>(threads), bytes, info[3].As<Napi::Boolean>().Value());
  if (!context.ok()) return makeFailure(env, context.failure());
  const double handle = client.handles.add(context.value());
  if (handle == 0) return makeFailure(env, {core::Operation::handle, EMFILE});
  client.addContext(context.value());
  const uapi::tee_ioctl_version_data& version = context.value()->version();
  Napi::Object object = Napi::Object::New(env);
  object.Set("context", handle);
  object.Set("implementationId", version.impl_id);
  object.Set("implementationCapabilities", version.impl_caps);
  object.Set("generalCapabilities", version.gen_caps);
  return object;
}

// Sessions and memory of a context are closed with it.
bool belongsTo(const Entry& entry, const std::shared_ptr<Context>& context) {
  if (const auto session = entry.as<core::Session>()) return session->context == context;
  const auto memory = entry.as<SharedMemory>();
  return memory && memory->context() == context;
}

Napi::Value closeContext(const CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Client& client = clientOf(info);
  Entry* entry = client.handles.find(readHandle(info[0]));
  const auto context = entry == nullptr ? nullptr : entry->as<Context>();
  if (!context) return Napi::Number::New(env, 0);
  client.handles.remove(*entry);
  for (Entry& child : client.handles.entries()) {
    if (belongsTo(child, context)) client.close(child);
  }
  Ticket ticket;
  ticket.job = std::make_shared<core::Job>();
  const std::shared_ptr<core::Job> closed = ticket.job;
  const uint32_t index = client.enter(std::move(ticket));
  context->close(closed);
  return Napi::Number::New(env, index);
}

Napi::Value describeDescriptor(const CallbackInfo& info) {
  int fd;
  Napi::Object object = Napi::Object::New(info.Env());
  const bool open = readFd(info[0], fd) && core::isOpen(fd);
  object.Set("open", open);
  if (open) {
    const std::string link = core::linkOf(fd);
    if (!link.empty()) object.Set("link", link);
  }
  return object;
}

Napi::Value hasRegisterDmaBuf(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info[0]));
  const auto device = context ? context->use() : nullptr;
  return Napi::Boolean::New(info.Env(), device && core::hasShmRegisterFd(device->get()));
}

Napi::Value contextStatistics(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info[0]));
  if (!context) return info.Env().Undefined();
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

void addContextFunctions(Napi::Object functions, Client& client) {
  addFunction<openContext>(functions, client, "openContext");
  addFunction<closeContext>(functions, client, "closeContext");
  addFunction<describeDescriptor>(functions, client, "describeDescriptor");
  addFunction<hasRegisterDmaBuf>(functions, client, "hasRegisterDmaBuf");
  addFunction<contextStatistics>(functions, client, "contextStatistics");
}

}  // namespace binding
