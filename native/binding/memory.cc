// Shared memory and dma-bufs.
#include <fcntl.h>

#include <cstring>
#include <functional>

#include "../core/dma.h"
#include "../core/shared_memory.h"
#include "client.h"
#include "values.h"

namespace binding {

using core::Context;
using core::DmaBuf;
using core::DmaHeap;
using core::SharedMemory;
using Napi::CallbackInfo;

namespace {

constexpr unsigned kThreads = 4;

// For work that can wait for the TEE and belongs to no session. Never destroyed, as core::releaser().
const std::shared_ptr<core::Threads>& memoryThreads() {
  static const auto* threads =
      new std::shared_ptr<core::Threads>(std::make_shared<core::Threads>("optee-memory", kThreads));
  return *threads;
}

void fill(Napi::Object object, const SharedMemory& memory, double handle) {
  object.Set("memory", handle);
  object.Set("id", memory.id());
  object.Set("fd", memory.fd());
  object.Set("size", static_cast<double>(memory.size()));
}

void fill(Napi::Object object, const DmaBuf& buf, double handle) {
  object.Set("buf", handle);
  object.Set("fd", buf.fd());
  object.Set("size", static_cast<double>(buf.size()));
}

// A new object's handle and description, or the failure.
template <typename T>
Napi::Value describeNew(Napi::Env env, Client& client, core::Result<std::shared_ptr<T>> made) {
  if (!made.ok()) return makeFailure(env, made.failure());
  const double handle = client.handles.add(made.value());
  if (handle == 0) return makeFailure(env, {core::Operation::handle, EMFILE});
  Napi::Object object = Napi::Object::New(env);
  fill(object, *made.value(), handle);
  return object;
}

template <typename T>
using Make = std::function<core::Result<std::shared_ptr<T>>()>;

template <typename T>
class MakeJob : public MemoryJob {
 public:
  MakeJob(Client& client, Make<T> make) : client_(client), make_(std::move(make)) {}

  void run() override {
    made_ = make_();
    make_ = nullptr;
    completions->post(std::static_pointer_cast<core::Job>(shared_from_this()));
  }

  Napi::Value describe(Napi::Env env) override { return describeNew(env, client_, std::move(made_)); }

 private:
  Client& client_;  // used on its own thread only
  Make<T> make_;
  core::Result<std::shared_ptr<T>> made_{core::Failure{}};
};

// Here and now, or on a thread: then what it returns is the ticket.
template <bool sync, typename T>
Napi::Value make(Napi::Env env, Client& client, Make<T> make) {
  if (sync) return describeNew(env, client, make());
  const auto job = std::make_shared<MakeJob<T>>(client, std::move(make));
  Ticket ticket;
  ticket.job = ticket.memory = job;
  const uint32_t index = client.enter(std::move(ticket));
  const int error = memoryThreads()->post(job);
  if (error == 0) return Napi::Number::New(env, index);
  client.leave(index);
  return makeFailure(env, {core::Operation::thread, error});
}

template <bool sync>
Napi::Value allocSharedMemory(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto context = client.handles.get<Context>(readHandle(info[0]));
  uint64_t size;
  if (!context) return badArgument(info.Env(), "context");
  if (!readUint(info[1], kMaxSafe, size) || size == 0) return badArgument(info.Env(), "size");
  return make<sync, SharedMemory>(info.Env(), client, [=] { return core::allocSharedMemory(context, size); });
}

template <bool sync>
Napi::Value registerSharedMemory(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto context = client.handles.get<Context>(readHandle(info[0]));
  Bytes bytes;
  if (!context) return badArgument(info.Env(), "context");
  // A SharedArrayBuffer is no ArrayBuffer, and its memory stays where it is.
  if (!readBytes(info[1], bytes) || bytes.length == 0 ||
      info[1].As<Napi::TypedArray>().ArrayBuffer().IsArrayBuffer()) {
    return badArgument(info.Env(), "view");
  }
  const std::shared_ptr<void> owner = client.views.hold(info[1].As<Napi::Object>(), client.completions());
  return make<sync, SharedMemory>(info.Env(), client, [=] {
    return core::registerSharedMemory(context, bytes.data, bytes.length, owner);
  });
}

template <bool sync>
Napi::Value registerDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto context = client.handles.get<Context>(readHandle(info[0]));
  int fd;
  if (!context) return badArgument(info.Env(), "context");
  if (!readFd(info[1], fd)) return badArgument(info.Env(), "fd");
  // The caller may close its descriptor at once.
  const auto duplicate = std::make_shared<core::UniqueFd>(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate->valid()) return makeFailure(info.Env(), core::Failure::last(core::Operation::dup));
  return make<sync, SharedMemory>(info.Env(), client,
                                  [=] { return core::registerDmaBuf(context, duplicate->get()); });
}

Napi::Value sharedMemoryBuffer(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto memory = client.handles.get<SharedMemory>(readHandle(info[0]));
  if (!memory || !memory->pages()) return info.Env().Undefined();
  return client.buffers.of(info.Env(), memory->pages(), memory->size());
}

Napi::Value readSharedMemory(const CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto memory = clientOf(info).handles.get<SharedMemory>(readHandle(info[0]));
  if (!memory) return Napi::Number::New(env, core::Status::sharedMemoryClosed);
  uint64_t offset, length;
  if (memory->data() == nullptr || !readUint(info[1], kMaxSafe, offset) ||
      !readUint(info[2], kMaxSafe, length)) {
    return Napi::Number::New(env, core::Status::argument);
  }
  if (!memory->contains(offset, length)) return Napi::Number::New(env, core::Status::outOfBounds);
  const napi_value copy = makeBytes(env, memory->data() + offset, length);
  return copy != nullptr ? Napi::Value(env, copy) : env.Undefined();
}

Napi::Value writeSharedMemory(const CallbackInfo& info) {
  const auto answer = [env = info.Env()](int32_t status) { return Napi::Number::New(env, status); };
  const auto memory = clientOf(info).handles.get<SharedMemory>(readHandle(info[0]));
  if (!memory) return answer(core::Status::sharedMemoryClosed);
  uint64_t offset;
  Bytes bytes;
  if (memory->data() == nullptr || !readBytes(info[1], bytes) || !readUint(info[2], kMaxSafe, offset)) {
    return answer(core::Status::argument);
  }
  if (!memory->contains(offset, bytes.length)) return answer(core::Status::outOfBounds);
  // The bytes may be a view of this very memory.
  if (bytes.length != 0) memmove(memory->data() + offset, bytes.data, bytes.length);
  return answer(core::Status::answered);
}

Napi::Value openDmaHeap(const CallbackInfo& info) {
  std::string path;
  if (!readPath(info[0], path)) return badArgument(info.Env(), "path");
  auto heap = DmaHeap::open(path);
  if (!heap.ok()) return makeFailure(info.Env(), heap.failure());
  const double handle = clientOf(info).handles.add(std::move(heap.value()));
  if (handle == 0) return makeFailure(info.Env(), {core::Operation::handle, EMFILE});
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("heap", handle);
  return object;
}

template <bool sync>
Napi::Value allocDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto heap = client.handles.get<DmaHeap>(readHandle(info[0]));
  uint64_t size;
  if (!heap) return badArgument(info.Env(), "heap");
  if (!readUint(info[1], kMaxSafe, size) || size == 0) return badArgument(info.Env(), "size");
  return make<sync, DmaBuf>(info.Env(), client, [=] { return heap->alloc(size); });
}

Napi::Value adoptDmaBuf(const CallbackInfo& info) {
  int fd;
  if (!readFd(info[0], fd)) return badArgument(info.Env(), "fd");
  if (!info[1].IsBoolean()) return badArgument(info.Env(), "own");
  return describeNew(info.Env(), clientOf(info), DmaBuf::adopt(fd, info[1].As<Napi::Boolean>().Value()));
}

Napi::Value mapDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto buf = client.handles.get<DmaBuf>(readHandle(info[0]));
  if (!buf) return badArgument(info.Env(), "buf");
  auto pages = buf->map();
  if (!pages.ok()) return makeFailure(info.Env(), pages.failure());
  return client.buffers.of(info.Env(), pages.value(), buf->size());
}

Napi::Value syncDmaBuf(const CallbackInfo& info) {
  const auto buf = clientOf(info).handles.get<DmaBuf>(readHandle(info[0]));
  uint64_t flags;
  if (!buf) return badArgument(info.Env(), "buf");
  if (!readUint(info[1], uapi::kDmaBufSyncValidFlags, flags)) return badArgument(info.Env(), "flags");
  const core::Failure failure = core::dmaBufSync(buf->fd(), flags);
  return failure ? makeFailure(info.Env(), failure) : info.Env().Undefined();
}

Napi::Value detachBuffers(const CallbackInfo& info) {
  clientOf(info).buffers.detachAll();
  return info.Env().Undefined();
}

Napi::Value close(const CallbackInfo& info) {
  Client& client = clientOf(info);
  Entry* entry = client.handles.find(readHandle(info[0]));
  // Contexts and sessions have their own.
  const bool here = entry != nullptr && !entry->as<Context>() && !entry->as<core::Session>();
  if (here) client.close(*entry);
  return Napi::Boolean::New(info.Env(), here);
}

}  // namespace

void addMemoryFunctions(Napi::Object functions, Client& client) {
  addFunction<allocSharedMemory<false>>(functions, client, "allocSharedMemory");
  addFunction<allocSharedMemory<true>>(functions, client, "allocSharedMemorySync");
  addFunction<registerSharedMemory<false>>(functions, client, "registerSharedMemory");
  addFunction<registerSharedMemory<true>>(functions, client, "registerSharedMemorySync");
  addFunction<registerDmaBuf<false>>(functions, client, "registerDmaBuf");
  addFunction<registerDmaBuf<true>>(functions, client, "registerDmaBufSync");
  addFunction<sharedMemoryBuffer>(functions, client, "sharedMemoryBuffer");
  addFunction<readSharedMemory>(functions, client, "readSharedMemory");
  addFunction<writeSharedMemory>(functions, client, "writeSharedMemory");
  addFunction<openDmaHeap>(functions, client, "openDmaHeap");
  addFunction<allocDmaBuf<false>>(functions, client, "allocDmaBuf");
  addFunction<allocDmaBuf<true>>(functions, client, "allocDmaBufSync");
  addFunction<adoptDmaBuf>(functions, client, "adoptDmaBuf");
  addFunction<mapDmaBuf>(functions, client, "mapDmaBuf");
  addFunction<syncDmaBuf>(functions, client, "syncDmaBuf");
  addFunction<detachBuffers>(functions, client, "detachBuffers");
  addFunction<close>(functions, client, "close");
}

}  // namespace binding
