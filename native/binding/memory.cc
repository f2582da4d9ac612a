// Shared memory and dma-bufs.
#include <fcntl.h>

#include <cstring>
#include <functional>

#include "client.h"
#include "values.h"

namespace binding {

using core::Context;
using core::DmaBuf;
using core::DmaHeap;
using core::SharedMemory;
using Napi::CallbackInfo;

namespace {

Napi::Value badArgument(const CallbackInfo& info, uint32_t index) {
  clientOf(info).badArgument(index);
  return Napi::Number::New(info.Env(), 0);
}

// Makes something, here and now where the last argument says so, else on a thread: then it returns the
// ticket.
template <typename Make>
Napi::Value make(const CallbackInfo& info, const std::shared_ptr<Context>& context, Make make) {
  Client& client = clientOf(info);
  const Napi::Value sync = info[2];
  uint32_t index = 0;
  if (sync.IsBoolean() && sync.As<Napi::Boolean>().Value()) {
    client.add(core::asMade(make()));
  } else {
    Ticket ticket;
    ticket.job = ticket.make =
        std::make_shared<core::MakeJob>(context, [make] { return core::asMade(make()); });
    const std::shared_ptr<core::Job> job = ticket.job;
    index = client.enter(std::move(ticket));
    if (const int error = core::makers()->post(job)) {
      client.leave(index);
      client.fail({core::Operation::thread, error});
      index = 0;
    }
  }
  return Napi::Number::New(info.Env(), index);
}

Napi::Value allocSharedMemory(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info[0]));
  uint64_t size;
  if (!context) return badArgument(info, 0);
  if (!readUint(info[1], kMaxSafe, size) || size == 0) return badArgument(info, 1);
  return make(info, context, [=] { return core::allocSharedMemory(context, size); });
}

Napi::Value registerSharedMemory(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto context = client.handles.get<Context>(readHandle(info[0]));
  Bytes bytes;
  if (!context) return badArgument(info, 0);
  // A SharedArrayBuffer is no ArrayBuffer, and its memory stays where it is.
  if (!readBytes(info[1], bytes) || bytes.length == 0 ||
      info[1].As<Napi::TypedArray>().ArrayBuffer().IsArrayBuffer()) {
    return badArgument(info, 1);
  }
  const std::shared_ptr<void> owner = client.views.hold(info[1].As<Napi::Object>(), client.completions());
  return make(info, context,
              [=] { return core::registerSharedMemory(context, bytes.data, bytes.length, owner); });
}

Napi::Value registerDmaBuf(const CallbackInfo& info) {
  const auto context = clientOf(info).handles.get<Context>(readHandle(info[0]));
  int fd;
  if (!context) return badArgument(info, 0);
  if (!readFd(info[1], fd)) return badArgument(info, 1);
  // The caller may close its descriptor at once.
  const auto duplicate = std::make_shared<core::UniqueFd>(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate->valid()) {
    clientOf(info).fail(core::Failure::last(core::Operation::dup));
    return Napi::Number::New(info.Env(), 0);
  }
  return make(info, context, [=] { return core::registerDmaBuf(context, duplicate->get()); });
}

Napi::Value allocDmaBuf(const CallbackInfo& info) {
  const auto heap = clientOf(info).handles.get<DmaHeap>(readHandle(info[0]));
  uint64_t size;
  if (!heap) return badArgument(info, 0);
  if (!readUint(info[1], kMaxSafe, size) || size == 0) return badArgument(info, 1);
  return make(info, nullptr, [=] { return heap->alloc(size); });
}

Napi::Value sharedMemoryBuffer(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto memory = client.handles.get<SharedMemory>(readHandle(info[0]));
  if (!memory || !memory->pages()) return info.Env().Undefined();
  return client.buffers.of(info.Env(), memory->pages(), memory->size());
}

Napi::Value readSharedMemory(const CallbackInfo& info) {
  const auto memory = clientOf(info).handles.get<SharedMemory>(readHandle(info[0]));
  uint64_t offset, length;
  napi_value copy = nullptr;
  if (memory && memory->data() != nullptr && readUint(info[1], kMaxSafe, offset) &&
      readUint(info[2], kMaxSafe, length) && memory->contains(offset, length)) {
    copy = makeBytes(info.Env(), memory->data() + offset, length);
  }
  return copy != nullptr ? Napi::Value(info.Env(), copy) : info.Env().Undefined();
}

Napi::Value writeSharedMemory(const CallbackInfo& info) {
  const auto memory = clientOf(info).handles.get<SharedMemory>(readHandle(info[0]));
  uint64_t offset;
  Bytes bytes;
  const bool good = memory && memory->data() != nullptr && readBytes(info[1], bytes) &&
                    readUint(info[2], kMaxSafe, offset) && memory->contains(offset, bytes.length);
  // The bytes may be a view of this very memory.
  if (good && bytes.length != 0) memmove(memory->data() + offset, bytes.data, bytes.length);
  return Napi::Boolean::New(info.Env(), good);
}

void openDmaHeap(const CallbackInfo& info) {
  Client& client = clientOf(info);
  std::string path;
  if (!readPath(info[0], path)) return client.badArgument(0);
  auto heap = DmaHeap::open(path);
  if (!heap.ok()) return client.fail(heap.failure());
  client.add(std::move(heap.value()), {});
}

void adoptDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  int fd;
  if (!readFd(info[0], fd)) return client.badArgument(0);
  if (!info[1].IsBoolean()) return client.badArgument(1);
  client.add(core::asMade(DmaBuf::adopt(fd, info[1].As<Napi::Boolean>().Value())));
}

Napi::Value mapDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto buf = client.handles.get<DmaBuf>(readHandle(info[0]));
  if (!buf) return badArgument(info, 0);
  auto pages = buf->map();
  if (!pages.ok()) {
    client.fail(pages.failure());
    return info.Env().Undefined();
  }
  client.answer({});
  return client.buffers.of(info.Env(), pages.value(), buf->size());
}

void syncDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto buf = client.handles.get<DmaBuf>(readHandle(info[0]));
  uint64_t flags;
  if (!buf) return client.badArgument(0);
  if (!readUint(info[1], uapi::kDmaBufSyncValidFlags, flags)) return client.badArgument(1);
  client.fail(core::dmaBufSync(buf->fd(), flags));
}

void detachBuffers(const CallbackInfo& info) {
  clientOf(info).buffers.detachAll();
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
  addFunction<allocSharedMemory>(functions, client, "allocSharedMemory");
  addFunction<registerSharedMemory>(functions, client, "registerSharedMemory");
  addFunction<registerDmaBuf>(functions, client, "registerDmaBuf");
  addFunction<sharedMemoryBuffer>(functions, client, "sharedMemoryBuffer");
  addFunction<readSharedMemory>(functions, client, "readSharedMemory");
  addFunction<writeSharedMemory>(functions, client, "writeSharedMemory");
  addFunction<openDmaHeap>(functions, client, "openDmaHeap");
  addFunction<allocDmaBuf>(functions, client, "allocDmaBuf");
  addFunction<adoptDmaBuf>(functions, client, "adoptDmaBuf");
  addFunction<mapDmaBuf>(functions, client, "mapDmaBuf");
  addFunction<syncDmaBuf>(functions, client, "syncDmaBuf");
  addFunction<detachBuffers>(functions, client, "detachBuffers");
  addFunction<close>(functions, client, "close");
}

}  // namespace binding
