#include "tee.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace core {

namespace {

// SHM ioctls answer with a descriptor without close-on-exec, and have no flag for it. It is set right behind
// them; a child that another thread forks in between sets it itself. (Always: the kernel copies the
// descriptors before the memory, so nothing in memory tells if one was made in between.) Only
// async-signal-safe functions may be called there.
void onFork() {
  const int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  alignas(dirent64) char entries[2048];
  for (long size; (size = syscall(SYS_getdents64, folder, entries, sizeof(entries))) > 0;) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      char link[64] = {};
      if (readlinkat(folder, entry->d_name, link, sizeof(link) - 1) > 0 &&
          strstr(link, "tee_shm") != nullptr) {
        fcntl(atoi(entry->d_name), F_SETFD, FD_CLOEXEC);
      }
      at += entry->d_reclen;
    }
  }
  close(folder);
}

// data is what the kernel fills in; its id and the member `size` are read when it has.
template <typename Data>
Result<TeeShm> share(int device, unsigned long request, Data& data, uint64_t Data::*size,
                     Operation operation) {
  static const int registered = pthread_atfork(nullptr, nullptr, onFork);
  (void)registered;
  const int fd = ioctl(device, request, &data);
  const int error = errno;
  if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (fd < 0) return Failure{operation, error};
  return TeeShm{UniqueFd(fd), data.id, data.*size};
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
  return share(device, uapi::kTeeIocShmAlloc, data, &uapi::tee_ioctl_shm_alloc_data::size,
               Operation::shmAlloc);
}

Result<TeeShm> shmRegister(int device, const void* address, uint64_t length) {
  uapi::tee_ioctl_shm_register_data data{};
  data.addr = reinterpret_cast<uintptr_t>(address);
  data.length = length;
  return share(device, uapi::kTeeIocShmRegister, data, &uapi::tee_ioctl_shm_register_data::length,
               Operation::shmRegister);
}

Result<TeeShm> shmRegisterFd(int device, int dmaBuf) {
  uapi::tee_ioctl_shm_register_fd_data data{};
  data.fd = dmaBuf;
  return share(device, uapi::kTeeIocShmRegisterFd, data, &uapi::tee_ioctl_shm_register_fd_data::size,
               Operation::shmRegisterFd);
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
