// The one place that makes ioctls: a typed function each. Only those that may run twice are repeated on EINTR
// (VERSION, DMA_BUF_IOCTL_SYNC); a repeated INVOKE or OPEN_SESSION could run a command twice.
#pragma once

#include <cstdint>

#include "../uapi.h"
#include "result.h"
#include "unique_fd.h"

namespace core {

constexpr unsigned kMaxParams = 4;  // OP-TEE's and GlobalPlatform's limit

struct OpenSessionMessage {
  uapi::tee_ioctl_open_session_arg arg;
  uapi::tee_ioctl_param params[kMaxParams];
};

struct InvokeMessage {
  uapi::tee_ioctl_invoke_arg arg;
  uapi::tee_ioctl_param params[kMaxParams];
};

// A tee_shm: its descriptor is the reference that keeps it registered.
struct TeeShm {
  UniqueFd fd;
  int32_t id = 0;
  uint64_t size = 0;
};

Result<UniqueFd> openFile(const char* path, int flags);
Result<uapi::tee_ioctl_version_data> version(int device);
Result<TeeShm> shmAlloc(int device, uint64_t size);
Result<TeeShm> shmRegister(int device, const void* address, uint64_t length);
Result<TeeShm> shmRegisterFd(int device, int dmaBuf);
// EFAULT to a pointer that leads nowhere where the ioctl exists, EINVAL where it does not.
bool hasShmRegisterFd(int device);
// The two below read the first num_params params, and write ret, ret_origin and the outputs.
Failure openSession(int device, OpenSessionMessage& message);
Failure invoke(int device, InvokeMessage& message);
// 0 or an errno.
int cancel(int device, uint32_t session);
Failure closeSession(int device, uint32_t session);

Result<UniqueFd> dmaHeapAlloc(int heap, uint64_t size);
Failure dmaBufSync(int dmaBuf, uint64_t flags);

}  // namespace core
