// The kernel's ABI for /dev/tee[0-9]+, dma-heaps and dma-bufs, as we use it, stated by ourselves so that the
// build does not depend on how new the headers of the building machine are. Names are the kernel's
// (include/uapi/linux/tee.h, dma-heap.h, dma-buf.h); test/native/uapi_test.cc compares it with those headers.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace uapi {

struct tee_ioctl_version_data {
  uint32_t impl_id;
  uint32_t impl_caps;
  uint32_t gen_caps;
};

struct tee_ioctl_shm_alloc_data {
  uint64_t size;
  uint32_t flags;
  int32_t id;
};

struct tee_ioctl_shm_register_fd_data {
  int64_t fd;
  uint64_t size;
  uint32_t flags;
  int32_t id;
};

struct tee_ioctl_shm_register_data {
  uint64_t addr;
  uint64_t length;
  uint32_t flags;
  int32_t id;
};

struct tee_ioctl_buf_data {
  uint64_t buf_ptr;
  uint64_t buf_len;
};

struct tee_ioctl_param {
  uint64_t attr;
  uint64_t a;
  uint64_t b;
  uint64_t c;
};

// The kernel's two call structures end in a flexible array, which C++ has not: see OpenSessionMessage and
// InvokeMessage in core/tee.h.
struct tee_ioctl_open_session_arg {
  uint8_t uuid[16];
  uint8_t clnt_uuid[16];
  uint32_t clnt_login;
  uint32_t cancel_id;
  uint32_t session;
  uint32_t ret;
  uint32_t ret_origin;
  uint32_t num_params;
};

struct tee_ioctl_invoke_arg {
  uint32_t func;
  uint32_t session;
  uint32_t cancel_id;
  uint32_t ret;
  uint32_t ret_origin;
  uint32_t num_params;
};

struct tee_ioctl_cancel_arg {
  uint32_t cancel_id;
  uint32_t session;
};

struct tee_ioctl_close_session_arg {
  uint32_t session;
};

struct dma_heap_allocation_data {
  uint64_t len;
  uint32_t fd;
  uint32_t fd_flags;
  uint64_t heap_flags;
};

struct dma_buf_sync {
  uint64_t flags;
};

constexpr uint32_t kImplIdOptee = 1;         // TEE_IMPL_ID_OPTEE
constexpr uint32_t kGenCapRegMem = 1u << 2;  // TEE_GEN_CAP_REG_MEM

// TEE_IOCTL_PARAM_ATTR_TYPE_*
constexpr uint64_t kParamNone = 0;
constexpr uint64_t kParamValueInput = 1;
constexpr uint64_t kParamValueOutput = 2;
constexpr uint64_t kParamValueInout = 3;
constexpr uint64_t kParamMemrefInput = 5;
constexpr uint64_t kParamMemrefOutput = 6;
constexpr uint64_t kParamMemrefInout = 7;

constexpr uint64_t kMemrefNull = ~uint64_t{0};  // TEE_MEMREF_NULL

constexpr uint32_t kDmaBufSyncValidFlags = 7;  // DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END

constexpr unsigned kTeeMagic = 0xa4;
constexpr unsigned long kTeeIocVersion = _IOR(kTeeMagic, 0, tee_ioctl_version_data);
constexpr unsigned long kTeeIocShmAlloc = _IOWR(kTeeMagic, 1, tee_ioctl_shm_alloc_data);
constexpr unsigned long kTeeIocOpenSession = _IOR(kTeeMagic, 2, tee_ioctl_buf_data);
constexpr unsigned long kTeeIocInvoke = _IOR(kTeeMagic, 3, tee_ioctl_buf_data);
constexpr unsigned long kTeeIocCancel = _IOR(kTeeMagic, 4, tee_ioctl_cancel_arg);
constexpr unsigned long kTeeIocCloseSession = _IOR(kTeeMagic, 5, tee_ioctl_close_session_arg);
constexpr unsigned long kTeeIocShmRegisterFd = _IOWR(kTeeMagic, 8, tee_ioctl_shm_register_fd_data);
constexpr unsigned long kTeeIocShmRegister = _IOWR(kTeeMagic, 9, tee_ioctl_shm_register_data);
constexpr unsigned long kDmaHeapIoctlAlloc = _IOWR('H', 0, dma_heap_allocation_data);
constexpr unsigned long kDmaBufIoctlSync = _IOW('b', 0, dma_buf_sync);

static_assert(kTeeIocVersion == 0x800ca400);
static_assert(kTeeIocShmAlloc == 0xc010a401);
static_assert(kTeeIocOpenSession == 0x8010a402);
static_assert(kTeeIocInvoke == 0x8010a403);
static_assert(kTeeIocCancel == 0x8008a404);
static_assert(kTeeIocCloseSession == 0x8004a405);
static_assert(kTeeIocShmRegisterFd == 0xc018a408);
static_assert(kTeeIocShmRegister == 0xc018a409);
static_assert(kDmaHeapIoctlAlloc == 0xc0184800);
static_assert(kDmaBufIoctlSync == 0x40086200);

static_assert(sizeof(tee_ioctl_version_data) == 12);
static_assert(offsetof(tee_ioctl_version_data, impl_id) == 0);
static_assert(offsetof(tee_ioctl_version_data, impl_caps) == 4);
static_assert(offsetof(tee_ioctl_version_data, gen_caps) == 8);
static_assert(sizeof(tee_ioctl_shm_alloc_data) == 16);
static_assert(offsetof(tee_ioctl_shm_alloc_data, size) == 0);
static_assert(offsetof(tee_ioctl_shm_alloc_data, flags) == 8);
static_assert(offsetof(tee_ioctl_shm_alloc_data, id) == 12);
static_assert(sizeof(tee_ioctl_shm_register_fd_data) == 24);
static_assert(offsetof(tee_ioctl_shm_register_fd_data, fd) == 0);
static_assert(offsetof(tee_ioctl_shm_register_fd_data, size) == 8);
static_assert(offsetof(tee_ioctl_shm_register_fd_data, flags) == 16);
static_assert(offsetof(tee_ioctl_shm_register_fd_data, id) == 20);
static_assert(sizeof(tee_ioctl_shm_register_data) == 24);
static_assert(offsetof(tee_ioctl_shm_register_data, addr) == 0);
static_assert(offsetof(tee_ioctl_shm_register_data, length) == 8);
static_assert(offsetof(tee_ioctl_shm_register_data, flags) == 16);
static_assert(offsetof(tee_ioctl_shm_register_data, id) == 20);
static_assert(sizeof(tee_ioctl_buf_data) == 16);
static_assert(offsetof(tee_ioctl_buf_data, buf_ptr) == 0);
static_assert(offsetof(tee_ioctl_buf_data, buf_len) == 8);
static_assert(sizeof(tee_ioctl_param) == 32);
static_assert(offsetof(tee_ioctl_param, attr) == 0);
static_assert(offsetof(tee_ioctl_param, a) == 8);
static_assert(offsetof(tee_ioctl_param, b) == 16);
static_assert(offsetof(tee_ioctl_param, c) == 24);
static_assert(sizeof(tee_ioctl_open_session_arg) == 56);
static_assert(offsetof(tee_ioctl_open_session_arg, uuid) == 0);
static_assert(offsetof(tee_ioctl_open_session_arg, clnt_uuid) == 16);
static_assert(offsetof(tee_ioctl_open_session_arg, clnt_login) == 32);
static_assert(offsetof(tee_ioctl_open_session_arg, cancel_id) == 36);
static_assert(offsetof(tee_ioctl_open_session_arg, session) == 40);
static_assert(offsetof(tee_ioctl_open_session_arg, ret) == 44);
static_assert(offsetof(tee_ioctl_open_session_arg, ret_origin) == 48);
static_assert(offsetof(tee_ioctl_open_session_arg, num_params) == 52);
static_assert(sizeof(tee_ioctl_invoke_arg) == 24);
static_assert(offsetof(tee_ioctl_invoke_arg, func) == 0);
static_assert(offsetof(tee_ioctl_invoke_arg, session) == 4);
static_assert(offsetof(tee_ioctl_invoke_arg, cancel_id) == 8);
static_assert(offsetof(tee_ioctl_invoke_arg, ret) == 12);
static_assert(offsetof(tee_ioctl_invoke_arg, ret_origin) == 16);
static_assert(offsetof(tee_ioctl_invoke_arg, num_params) == 20);
static_assert(sizeof(tee_ioctl_cancel_arg) == 8);
static_assert(offsetof(tee_ioctl_cancel_arg, cancel_id) == 0);
static_assert(offsetof(tee_ioctl_cancel_arg, session) == 4);
static_assert(sizeof(tee_ioctl_close_session_arg) == 4);
static_assert(sizeof(dma_heap_allocation_data) == 24);
static_assert(offsetof(dma_heap_allocation_data, len) == 0);
static_assert(offsetof(dma_heap_allocation_data, fd) == 8);
static_assert(offsetof(dma_heap_allocation_data, fd_flags) == 12);
static_assert(offsetof(dma_heap_allocation_data, heap_flags) == 16);
static_assert(sizeof(dma_buf_sync) == 8);

}  // namespace uapi
