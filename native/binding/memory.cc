// Shared memory and dma-bufs.
#include <cstring>

#include "../core/dma.h"
#include "../core/remains.h"
#include "../core/shared_memory.h"
#include "objects.h"

namespace binding {

using core::Context;
using core::DmaBuf;
using core::DmaHeap;
using core::SharedMemory;
using Napi::CallbackInfo;

namespace {

// New shared memory's handle, with its description in the packet; or 0, with the failure there.
napi_value answer(napi_env env, Client& client, core::Result<std::shared_ptr<SharedMemory>> memory) {
  double* packet = client.packet();
  core::Failure failure = memory.failure();
  double handle = 0;
  if (!failure) {
    const SharedMemory& shared = *memory.value();
    packet[packet::kShmId] = shared.id();
    packet[packet::kShmFd] = shared.fd();
    packet[packet::kShmSize] = static_cast<double>(shared.size());
    handle = client.handles.add(std::move(memory.value()));
    if (handle == 0) failure = {core::Operation::handle, EMFILE};
  }
  packet[packet::kStatus] = failure.error;
  packet[packet::kDetail] = static_cast<double>(failure.operation);
  return number(env, handle);
}

napi_value refuseArgument(napi_env env, Client& client) {
  return answer(env, client, core::Failure{core::Operation::argument, EINVAL});
}

napi_value allocSharedMemory(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  if (arguments.client == nullptr) return number(env, 0);
  Client& client = *arguments.client;
  const auto context = client.handles.get<Context>(readHandle(env, arguments.values[0]));
  uint64_t size;
  if (!context || !readUint(env, arguments.values[1], kMaxSafe, size) || size == 0) {
    return refuseArgument(env, client);
  }
  return answer(env, client, core::allocSharedMemory(context, size));
}

napi_value registerSharedMemory(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  if (arguments.client == nullptr) return number(env, 0);
  Client& client = *arguments.client;
  const auto context = client.handles.get<Context>(readHandle(env, arguments.values[0]));
  Bytes bytes;
  napi_value buffer;
  bool movable = true;
  // A SharedArrayBuffer is no ArrayBuffer, and its memory stays where it is.
  if (!context || !readBytes(env, arguments.values[1], bytes, &buffer) || bytes.length == 0 ||
      napi_is_arraybuffer(env, buffer, &movable) != napi_ok || movable) {
    return refuseArgument(env, client);
  }
  std::shared_ptr<void> keeper = client.hold(env, arguments.values[1]);
  if (!keeper) return refuseArgument(env, client);
  return answer(env, client,
                core::registerSharedMemory(context, bytes.data, bytes.length, std::move(keeper)));
}

napi_value registerDmaBuf(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  if (arguments.client == nullptr) return number(env, 0);
  Client& client = *arguments.client;
  const auto context = client.handles.get<Context>(readHandle(env, arguments.values[0]));
  int fd;
  if (!context || !readFd(env, arguments.values[1], fd)) return refuseArgument(env, client);
  return answer(env, client, core::registerDmaBuf(context, fd));
}

napi_value sharedMemoryBuffer(const CallbackInfo& info) {
  Client& client = clientOf(info);
  Entry* entry = client.handles.find<SharedMemory>(readHandle(info.Env(), info[0]));
  if (entry == nullptr) return undefined(info.Env());
  const auto* shared = entry->as<SharedMemory>();
  if (!shared->pages()) return undefined(info.Env());
  napi_value buffer =
      client.bufferOf(info.Env(), *entry, shared->pages(), shared->size(), shared->context()->closer());
  return buffer != nullptr ? buffer : undefined(info.Env());
}

napi_value readSharedMemory(const CallbackInfo& info) {
  const napi_env env = info.Env();
  Client& client = clientOf(info);
  const auto status = [env](int32_t value) { return Napi::Number::New(env, value); };
  const auto memory = client.handles.get<SharedMemory>(readHandle(env, info[0]));
  if (!memory) return status(core::status::kSharedMemoryClosed);
  uint64_t offset, length;
  if (memory->data() == nullptr || !readUint(env, info[1], kMaxSafe, offset) ||
      !readUint(env, info[2], kMaxSafe, length)) {
    return status(core::status::kArgument);
  }
  if (!memory->contains(offset, length)) return status(core::status::kOutOfBounds);
  napi_value copy = makeBytes(env, memory->data() + offset, length);
  return copy != nullptr ? copy : undefined(env);
}

napi_value writeSharedMemory(const CallbackInfo& info) {
  const napi_env env = info.Env();
  Client& client = clientOf(info);
  const auto status = [env](int32_t value) { return Napi::Number::New(env, value); };
  const auto memory = client.handles.get<SharedMemory>(readHandle(env, info[0]));
  if (!memory) return status(core::status::kSharedMemoryClosed);
  uint64_t offset;
  Bytes bytes;
  if (memory->data() == nullptr || !readBytes(env, info[1], bytes) ||
      !readUint(env, info[2], kMaxSafe, offset)) {
    return status(core::status::kArgument);
  }
  if (!memory->contains(offset, bytes.length)) return status(core::status::kOutOfBounds);
  // The bytes may be a view of this very memory.
  if (bytes.length != 0) memmove(memory->data() + offset, bytes.data, bytes.length);
  return status(core::status::kAnswered);
}

napi_value describe(napi_env env, Client& client, core::Result<std::shared_ptr<DmaBuf>> buf) {
  if (!buf.ok()) return makeFailure(env, buf.failure());
  Napi::Object object = Napi::Object::New(env);
  object.Set("fd", buf.value()->fd());
  object.Set("size", static_cast<double>(buf.value()->size()));
  const double handle = client.handles.add(std::move(buf.value()));
  if (handle == 0) return noHandleLeft(env);
  object.Set("buf", handle);
  return object;
}

napi_value openDmaHeap(const CallbackInfo& info) {
  std::string path;
  if (!readPath(info, 0, path)) return badArgument(info.Env(), "path");
  auto heap = DmaHeap::open(path.c_str());
  if (!heap.ok()) return makeFailure(info.Env(), heap.failure());
  const double handle = clientOf(info).handles.add(std::move(heap.value()));
  if (handle == 0) return noHandleLeft(info.Env());
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("heap", handle);
  return object;
}

napi_value allocDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  const auto heap = client.handles.get<DmaHeap>(readHandle(info.Env(), info[0]));
  if (!heap) return badArgument(info.Env(), "heap");
  uint64_t size;
  if (!readUint(info.Env(), info[1], kMaxSafe, size) || size == 0) return badArgument(info.Env(), "size");
  return describe(info.Env(), client, heap->alloc(size));
}

// Two owners would close it twice, the second time as somebody else's.
bool ownsFd(Client& client, int fd) {
  for (const Entry& entry : client.handles.entries()) {
    if ((entry.kind == Kind::dmaBuf && entry.as<DmaBuf>()->fd() == fd) ||
        (entry.kind == Kind::sharedMemory && entry.as<SharedMemory>()->fd() == fd)) {
      return true;
    }
  }
  return false;
}

napi_value adoptDmaBuf(const CallbackInfo& info) {
  int fd;
  if (!readFd(info.Env(), info[0], fd)) return badArgument(info.Env(), "fd");
  if (!info[1].IsBoolean()) return badArgument(info.Env(), "own");
  const bool own = info[1].As<Napi::Boolean>();
  Client& client = clientOf(info);
  if (client.handles.full()) return noHandleLeft(info.Env());
  if (own && ownsFd(client, fd))
    return describe(info.Env(), client, core::Failure{core::Operation::argument, EBUSY});
  return describe(info.Env(), client, DmaBuf::adopt(fd, own));
}

napi_value mapDmaBuf(const CallbackInfo& info) {
  Client& client = clientOf(info);
  Entry* entry = client.handles.find<DmaBuf>(readHandle(info.Env(), info[0]));
  if (entry == nullptr) return badArgument(info.Env(), "buf");
  auto* buf = entry->as<DmaBuf>();
  auto pages = buf->map();
  if (!pages.ok()) return makeFailure(info.Env(), pages.failure());
  napi_value buffer = client.bufferOf(info.Env(), *entry, pages.value(), buf->size(), core::reaper());
  return buffer != nullptr ? buffer : undefined(info.Env());
}

napi_value syncDmaBuf(const CallbackInfo& info) {
  const auto buf = clientOf(info).handles.get<DmaBuf>(readHandle(info.Env(), info[0]));
  if (!buf) return badArgument(info.Env(), "buf");
  uint64_t flags;
  if (!readUint(info.Env(), info[1], uapi::kDmaBufSyncValidFlags, flags))
    return badArgument(info.Env(), "flags");
  const core::Failure failure = core::dmaBufSync(buf->fd(), flags);
  return failure ? makeFailure(info.Env(), failure) : undefined(info.Env());
}

napi_value close(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  Entry* entry = client.handles.find(readHandle(env, arguments.values[0]));
  const bool mine = entry != nullptr && (entry->kind == Kind::sharedMemory || entry->kind == Kind::dmaHeap ||
                                         entry->kind == Kind::dmaBuf);
  if (mine) client.close(env, *entry);
  napi_value answer = nullptr;
  napi_get_boolean(env, mine, &answer);
  return answer;
}

}  // namespace

const NamedFunction kMemoryFunctions[12] = {
    {"allocSharedMemory", allocSharedMemory},
    {"registerSharedMemory", registerSharedMemory},
    {"registerDmaBuf", registerDmaBuf},
    {"sharedMemoryBuffer", wrap<sharedMemoryBuffer>},
    {"readSharedMemory", wrap<readSharedMemory>},
    {"writeSharedMemory", wrap<writeSharedMemory>},
    {"openDmaHeap", wrap<openDmaHeap>},
    {"allocDmaBuf", wrap<allocDmaBuf>},
    {"adoptDmaBuf", wrap<adoptDmaBuf>},
    {"mapDmaBuf", wrap<mapDmaBuf>},
    {"syncDmaBuf", wrap<syncDmaBuf>},
    {"close", close},
};

}  // namespace binding
