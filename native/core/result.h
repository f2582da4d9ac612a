// What a system call that can fail gives back: a value, or which operation failed and its errno.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace core {

enum class Operation : uint8_t {
  none,
  argument,
  open,
  version,
  shmAlloc,
  shmRegister,
  shmRegisterFd,
  openSession,
  invoke,
  closeSession,
  malloc,
  memAvailable,
  memoryCgroup,
  memfdCreate,
  ftruncate,
  mmap,
  thread,
  dup,
  lseek,
  dmaHeapAlloc,
  dmaBufSync,
  handle,
  count,
};

struct OperationName {
  const char* operation;
  const char* syscall;
};

// In the order of Operation.
constexpr OperationName kOperationNames[] = {
    {"", ""},
    {"argument", ""},
    {"open", "open"},
    {"TEE_IOC_VERSION", "ioctl"},
    {"TEE_IOC_SHM_ALLOC", "ioctl"},
    {"TEE_IOC_SHM_REGISTER", "ioctl"},
    {"TEE_IOC_SHM_REGISTER_FD", "ioctl"},
    {"TEE_IOC_OPEN_SESSION", "ioctl"},
    {"TEE_IOC_INVOKE", "ioctl"},
    {"TEE_IOC_CLOSE_SESSION", "ioctl"},
    {"malloc", "malloc"},
    {"MemAvailable", "memfd_create"},
    {"memory cgroup", "memfd_create"},
    {"memfd_create", "memfd_create"},
    {"ftruncate", "ftruncate"},
    {"mmap", "mmap"},
    {"thread", "clone"},
    {"F_DUPFD_CLOEXEC", "fcntl"},
    {"lseek", "lseek"},
    {"DMA_HEAP_IOCTL_ALLOC", "ioctl"},
    {"DMA_BUF_IOCTL_SYNC", "ioctl"},
    {"handle", ""},
};
static_assert(sizeof(kOperationNames) / sizeof(*kOperationNames) == size_t(Operation::count));

struct Failure {
  Operation operation = Operation::none;
  int error = 0;

  explicit operator bool() const { return error != 0; }
  static Failure last(Operation operation) { return {operation, errno}; }
};

template <typename T>
class Result {
 public:
  Result(Failure failure) : failure_(failure) {}
  Result(T value) : value_(std::move(value)) {}

  bool ok() const { return !failure_; }
  Failure failure() const { return failure_; }
  T& value() { return value_; }

 private:
  T value_{};
  Failure failure_;
};

}  // namespace core
