#include "tee.h"

#include <fcntl.h>
#include <sys/ioctl.h>

namespace core {

namespace {

// SHM ioctls answer with a descriptor without close-on-exec, and have no flag for it.
Result<TeeShm> owned(int fd, int32_t id, uint64_t size, Operation operation) {
  if (fd < 0) return Failure::last(operation);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return TeeShm{UniqueFd(fd), id, size};
}

template <typename Message>
int call(int device, unsigned long request, Message& message) {
  uapi::tee_ioctl_buf_data data{};
  data.buf_ptr = reinterpret_cast<uintptr_t>(&message);
  data.buf_len = sizeof(message.arg) + message.arg.num_params * sizeof(message.params[0]);
  return ioctl(device, request, &data);
}

}  // namespace

Result<UniqueFd> openFile(const char* path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0) return Failure::last(Operation::open);
  return UniqueFd(fd);
}

Result<uapi::tee_ioctl_version_data> version(int device) {
  uapi::tee_ioctl_version_data data{};
  int answer;
  do answer = ioctl(device, uapi::kTeeIocVersion, &data);
  while (answer < 0 && errno == EINTR);
  if (answer < 0) return Failure::last(Operation::version);
  return data;
}

Result<TeeShm> shmAlloc(int device, uint64_t size) {
  uapi::tee_ioctl_shm_alloc_data data{};
  data.size = size;
  int fd = ioctl(device, uapi::kTeeIocShmAlloc, &data);
  return owned(fd, data.id, data.size, Operation::shmAlloc);
}

Result<TeeShm> shmRegister(int device, const void* address, uint64_t length) {
  uapi::tee_ioctl_shm_register_data data{};
  data.addr = reinterpret_cast<uintptr_t>(address);
  data.length = length;
  int fd = ioctl(device, uapi::kTeeIocShmRegister, &data);
  return owned(fd, data.id, data.length, Operation::shmRegister);
}

Result<TeeShm> shmRegisterFd(int device, int dmaBuf) {
  uapi::tee_ioctl_shm_register_fd_data data{};
  data.fd = dmaBuf;
  int fd = ioctl(device, uapi::kTeeIocShmRegisterFd, &data);
  return owned(fd, data.id, data.size, Operation::shmRegisterFd);
}

bool hasShmRegisterFd(int device) {
  return ioctl(device, uapi::kTeeIocShmRegisterFd, nullptr) < 0 && errno == EFAULT;
}

Failure openSession(int device, OpenSessionMessage& message) {
  if (call(device, uapi::kTeeIocOpenSession, message) < 0) return Failure::last(Operation::openSession);
  return {};
}

Failure invoke(int device, InvokeMessage& message) {
  if (call(device, uapi::kTeeIocInvoke, message) < 0) return Failure::last(Operation::invoke);
  return {};
}

int cancel(int device, uint32_t session) {
  uapi::tee_ioctl_cancel_arg arg{};
  arg.session = session;
  return ioctl(device, uapi::kTeeIocCancel, &arg) < 0 ? errno : 0;
}

Failure closeSession(int device, uint32_t session) {
  uapi::tee_ioctl_close_session_arg arg{};
  arg.session = session;
  if (ioctl(device, uapi::kTeeIocCloseSession, &arg) < 0) return Failure::last(Operation::closeSession);
  return {};
}

Result<UniqueFd> dmaHeapAlloc(int heap, uint64_t size) {
  uapi::dma_heap_allocation_data data{};
  data.len = size;
  data.fd_flags = O_RDWR | O_CLOEXEC;
  if (ioctl(heap, uapi::kDmaHeapIoctlAlloc, &data) < 0) return Failure::last(Operation::dmaHeapAlloc);
  return UniqueFd(static_cast<int>(data.fd));
}

Failure dmaBufSync(int dmaBuf, uint64_t flags) {
  uapi::dma_buf_sync data{flags};
  int answer;
  do answer = ioctl(dmaBuf, uapi::kDmaBufIoctlSync, &data);
  while (answer < 0 && errno == EINTR);
  if (answer < 0) return Failure::last(Operation::dmaBufSync);
  return {};
}

}  // namespace core
