// Our statement of the ABI against the kernel's own headers. Compiling it is the test.
#include "../../native/uapi.h"

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/tee.h>

#define SAME_SIZE(name) static_assert(sizeof(uapi::name) == sizeof(::name))
#define SAME(name, member)                                                 \
  static_assert(offsetof(uapi::name, member) == offsetof(::name, member)); \
  static_assert(sizeof(uapi::name::member) == sizeof(::name::member))

SAME_SIZE(tee_ioctl_version_data);
SAME(tee_ioctl_version_data, impl_id);
SAME(tee_ioctl_version_data, impl_caps);
SAME(tee_ioctl_version_data, gen_caps);

SAME_SIZE(tee_ioctl_shm_alloc_data);
SAME(tee_ioctl_shm_alloc_data, size);
SAME(tee_ioctl_shm_alloc_data, flags);
SAME(tee_ioctl_shm_alloc_data, id);

SAME_SIZE(tee_ioctl_shm_register_data);
SAME(tee_ioctl_shm_register_data, addr);
SAME(tee_ioctl_shm_register_data, length);
SAME(tee_ioctl_shm_register_data, flags);
SAME(tee_ioctl_shm_register_data, id);

SAME_SIZE(tee_ioctl_shm_register_fd_data);
SAME(tee_ioctl_shm_register_fd_data, fd);
SAME(tee_ioctl_shm_register_fd_data, size);
SAME(tee_ioctl_shm_register_fd_data, flags);
SAME(tee_ioctl_shm_register_fd_data, id);

SAME_SIZE(tee_ioctl_buf_data);
SAME(tee_ioctl_buf_data, buf_ptr);
SAME(tee_ioctl_buf_data, buf_len);

SAME_SIZE(tee_ioctl_param);
SAME(tee_ioctl_param, attr);
SAME(tee_ioctl_param, a);
SAME(tee_ioctl_param, b);
SAME(tee_ioctl_param, c);

SAME_SIZE(tee_ioctl_open_session_arg);
SAME(tee_ioctl_open_session_arg, uuid);
SAME(tee_ioctl_open_session_arg, clnt_uuid);
SAME(tee_ioctl_open_session_arg, clnt_login);
SAME(tee_ioctl_open_session_arg, cancel_id);
SAME(tee_ioctl_open_session_arg, session);
SAME(tee_ioctl_open_session_arg, ret);
SAME(tee_ioctl_open_session_arg, ret_origin);
SAME(tee_ioctl_open_session_arg, num_params);
static_assert(offsetof(::tee_ioctl_open_session_arg, params) == sizeof(uapi::tee_ioctl_open_session_arg));

SAME_SIZE(tee_ioctl_invoke_arg);
SAME(tee_ioctl_invoke_arg, func);
SAME(tee_ioctl_invoke_arg, session);
SAME(tee_ioctl_invoke_arg, cancel_id);
SAME(tee_ioctl_invoke_arg, ret);
SAME(tee_ioctl_invoke_arg, ret_origin);
SAME(tee_ioctl_invoke_arg, num_params);
static_assert(offsetof(::tee_ioctl_invoke_arg, params) == sizeof(uapi::tee_ioctl_invoke_arg));

SAME_SIZE(tee_ioctl_cancel_arg);
SAME(tee_ioctl_cancel_arg, cancel_id);
SAME(tee_ioctl_cancel_arg, session);

SAME_SIZE(tee_ioctl_close_session_arg);
SAME(tee_ioctl_close_session_arg, session);

SAME_SIZE(dma_heap_allocation_data);
SAME(dma_heap_allocation_data, len);
SAME(dma_heap_allocation_data, fd);
SAME(dma_heap_allocation_data, fd_flags);
SAME(dma_heap_allocation_data, heap_flags);

SAME_SIZE(dma_buf_sync);
SAME(dma_buf_sync, flags);

static_assert(uapi::kTeeIocVersion == TEE_IOC_VERSION);
static_assert(uapi::kTeeIocShmAlloc == TEE_IOC_SHM_ALLOC);
static_assert(uapi::kTeeIocOpenSession == TEE_IOC_OPEN_SESSION);
static_assert(uapi::kTeeIocInvoke == TEE_IOC_INVOKE);
static_assert(uapi::kTeeIocCancel == TEE_IOC_CANCEL);
static_assert(uapi::kTeeIocCloseSession == TEE_IOC_CLOSE_SESSION);
static_assert(uapi::kTeeIocShmRegister == TEE_IOC_SHM_REGISTER);
static_assert(uapi::kTeeIocShmRegisterFd == TEE_IOC_SHM_REGISTER_FD);
static_assert(uapi::kDmaHeapIoctlAlloc == DMA_HEAP_IOCTL_ALLOC);
static_assert(uapi::kDmaBufIoctlSync == DMA_BUF_IOCTL_SYNC);

static_assert(uapi::kImplIdOptee == TEE_IMPL_ID_OPTEE);
static_assert(uapi::kGenCapRegMem == TEE_GEN_CAP_REG_MEM);
static_assert(uapi::kMemrefNull == TEE_MEMREF_NULL);
static_assert(uapi::kParamNone == TEE_IOCTL_PARAM_ATTR_TYPE_NONE);
static_assert(uapi::kParamValueInput == TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT);
static_assert(uapi::kParamValueOutput == TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT);
static_assert(uapi::kParamValueInout == TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT);
static_assert(uapi::kParamMemrefInput == TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT);
static_assert(uapi::kParamMemrefOutput == TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT);
static_assert(uapi::kParamMemrefInout == TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT);
static_assert(uapi::kDmaBufSyncValidFlags == DMA_BUF_SYNC_VALID_FLAGS_MASK);

int main() {
  return 0;
}
