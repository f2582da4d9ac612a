// Contexts.
#include "client.h"
#include "values.h"

namespace binding {

using core::Context;
using Napi::CallbackInfo;

namespace {

constexpr double kMostThreads = 256;

void openContext(const CallbackInfo& info) {
  Client& client = clientOf(info);
  std::string path;
  uint64_t threads, bytes;
  if (!readPath(info[0], path)) return client.badArgument(0);
  if (!readUint(info[1], kMostThreads, threads) || threads == 0) return client.badArgument(1);
  if (!readUint(info[2], kMaxSafe, bytes)) return client.badArgument(2);
  if (!info[3].IsBoolean()) return client.badArgument(3);
  auto context =
      Context::open(path.c_str(), static_cast<unsigned>(threads), bytes, info[3].As<Napi::Boolean>().Value());
  if (!context.ok()) return client.fail(context.failure());
  const uapi::tee_ioctl_version_data& version = context.value()->version();
  client.add(context.value(), {double(version.impl_id), double(version.impl_caps), double(version.gen_caps)});
}

// Sessions and memory of a context are closed with it.
bool belongsTo(const Entry& entry, const std::shared_ptr<Context>& context) {
  if (const auto session = entry.as<core::Session>()) return session->context == context;
  const auto memory = entry.as<core::SharedMemory>();
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

Napi::Value hasRegisterDmaBuf(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info[0]));
  const auto device = context ? context->use() : nullptr;
  return Napi::Boolean::New(info.Env(), device && core::hasShmRegisterFd(device->get()));
}

void contextStatistics(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto context = client.handles.get<Context>(readHandle(info[0]));
  if (!context) return client.badArgument(0);
  const core::ContextStatistics all = context->statistics();
  const core::TemporaryStatistics& temporary = all.temporary;
  client.describe(0, {double(all.sessions), double(all.threads), double(temporary.slots),
                      double(temporary.bytes), double(temporary.registrations)});
}

}  // namespace

void addContextFunctions(Napi::Object functions, Client& client) {
  addFunction<openContext>(functions, client, "openContext");
  addFunction<closeContext>(functions, client, "closeContext");
  addFunction<hasRegisterDmaBuf>(functions, client, "hasRegisterDmaBuf");
  addFunction<contextStatistics>(functions, client, "contextStatistics");
}

}  // namespace binding
