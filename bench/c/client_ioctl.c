/* SPDX-License-Identifier: BSD-2-Clause */
/* The bare ioctls of /dev/tee0, as few of them as a case allows. */
#include <errno.h>
#include <fcntl.h>
#include <linux/tee.h>
#include <node_optee_test_ta.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common.h"

#ifndef TEE_IOC_SHM_REGISTER_FD
/* Not in the headers of kernels before 6.18. */
struct tee_ioctl_shm_register_fd_data {
  __s64 fd;
  __u64 size;
  __u32 flags;
  __s32 id;
};
#define TEE_IOC_SHM_REGISTER_FD _IOWR(TEE_IOC_MAGIC, TEE_IOC_BASE + 8, struct tee_ioctl_shm_register_fd_data)
#endif

#define PARAMS 4
#define PAGE_SIZE ((size_t)4096)

struct invoke {
  struct tee_ioctl_invoke_arg arg;
  struct tee_ioctl_param params[PARAMS];
};

struct open_session {
  struct tee_ioctl_open_session_arg arg;
  struct tee_ioctl_param params[PARAMS];
};

/* Our own pages, registered. */
struct memory {
  void *pages;
  int fd;
  int id;
};

struct state {
  const struct bench_case *bench_case;
  uint32_t session;
  struct memory memory;
  uint8_t *buffer; /* of the tmp cases: the caller's */
  int dma_buf;
};

static int tee = -1;
static uint32_t sessions[THREADS_MAX];
static bool has_session[THREADS_MAX];

static int open_session(uint32_t *session) {
  /* The UUID travels as 16 bytes, big-endian. */
  static const struct {
    uint32_t time_low;
    uint16_t time_mid;
    uint16_t time_hi;
    uint8_t rest[8];
  } uuid = NODE_OPTEE_TEST_TA_UUID;
  struct open_session open = {};
  struct tee_ioctl_buf_data data = {(uintptr_t)&open, sizeof(open)};
  uint8_t *bytes = open.arg.uuid;

  for (int i = 0; i < 4; i++) bytes[i] = uuid.time_low >> (24 - 8 * i);
  for (int i = 0; i < 2; i++) {
    bytes[4 + i] = uuid.time_mid >> (8 - 8 * i);
    bytes[6 + i] = uuid.time_hi >> (8 - 8 * i);
  }
  memcpy(bytes + 8, uuid.rest, 8);
  open.arg.num_params = PARAMS;
  if (ioctl(tee, TEE_IOC_OPEN_SESSION, &data)) return fail("TEE_IOC_OPEN_SESSION: %s", strerror(errno));
  if (open.arg.ret) return fail("open_session: %#x, origin %u", open.arg.ret, open.arg.ret_origin);
  *session = open.arg.session;
  return 0;
}

static int close_session(uint32_t session) {
  struct tee_ioctl_close_session_arg arg = {session};

  return ioctl(tee, TEE_IOC_CLOSE_SESSION, &arg) ? fail("TEE_IOC_CLOSE_SESSION: %s", strerror(errno)) : 0;
}

static void release(struct memory *memory) {
  if (memory->fd >= 0) close(memory->fd);
  free(memory->pages);
  *memory = (struct memory){.fd = -1};
}

static int allocate(struct memory *memory, size_t size) {
  struct tee_ioctl_shm_register_data data = {.length = size};

  *memory = (struct memory){.fd = -1};
  /* Whole pages of its own: what else lies in a registered page is the TEE's to see. */
  memory->pages = aligned_alloc(PAGE_SIZE, (size + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE);
  if (!memory->pages) return fail("out of memory");
  data.addr = (uintptr_t)memory->pages;
  memory->fd = ioctl(tee, TEE_IOC_SHM_REGISTER, &data);
  if (memory->fd < 0) {
    fail("TEE_IOC_SHM_REGISTER: %s", strerror(errno));
    release(memory);
    return -1;
  }
  memory->id = data.id;
  return 0;
}

static void teardown(void *argument) {
  struct state *state = argument;

  release(&state->memory);
  if (state->dma_buf >= 0) close(state->dma_buf);
  free(state->buffer);
  free(state);
}

static int setup(const struct bench_case *bench_case, unsigned int thread, void **result) {
  if (tee < 0) {
    tee = open("/dev/tee0", O_RDWR | O_CLOEXEC);
    if (tee < 0) return fail("open /dev/tee0: %s", strerror(errno));
  }
  if (!has_session[thread]) {
    if (open_session(sessions + thread)) return -1;
    has_session[thread] = true;
  }

  struct state *state = calloc(1, sizeof(*state));
  int failed = 0;

  if (!state) return fail("out of memory");
  state->bench_case = bench_case;
  state->session = sessions[thread];
  state->memory.fd = -1;
  state->dma_buf = -1;
  if (bench_case->kind == KIND_TMP) {
    state->buffer = malloc(bench_case->size);
    failed = state->buffer ? 0 : fail("out of memory");
    if (!failed) memset(state->buffer, 0, bench_case->size);
  }
  if (!failed && (bench_case->kind == KIND_TMP || bench_case->kind == KIND_SHM_WHOLE))
    failed = allocate(&state->memory, bench_case->size);
  if (!failed && bench_case->kind == KIND_SHM_PART)
    failed = allocate(&state->memory, bench_case->size + 2 * PART_MARGIN);
  if (!failed && bench_case->kind == KIND_DMABUF) failed = alloc_protected(bench_case->size, &state->dma_buf);
  if (failed) {
    teardown(state);
    return failed;
  }
  *result = state;
  return 0;
}

static int invoke(const struct state *state, struct invoke *call) {
  struct tee_ioctl_buf_data data = {(uintptr_t)call, sizeof(*call)};

  call->arg.session = state->session;
  call->arg.num_params = PARAMS;
  if (ioctl(tee, TEE_IOC_INVOKE, &data)) return fail("TEE_IOC_INVOKE: %s", strerror(errno));
  if (call->arg.ret) return fail("invoke: %#x, origin %u", call->arg.ret, call->arg.ret_origin);
  return 0;
}

static int invoke_values(const struct state *state) {
  struct invoke call = {.arg.func = state->bench_case->values ? TEST_TA_VALUES : TEST_TA_NOTHING};

  for (unsigned int i = 0; i < state->bench_case->values; i++)
    call.params[i] = (struct tee_ioctl_param){TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, 41, 1, 0};
  return invoke(state, &call);
}

static int invoke_memory(const struct state *state, uint64_t attr, size_t offset) {
  struct invoke call = {.arg.func = TEST_TA_TOUCH};
  const int id = state->memory.id;

  call.params[0] = (struct tee_ioctl_param){attr, offset, state->bench_case->size, id};
  return invoke(state, &call);
}

static int invoke_tmp(const struct state *state) {
  const struct bench_case *bench_case = state->bench_case;
  const uint64_t attr = !bench_case->out  ? TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
                        : !bench_case->in ? TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT
                                          : TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT;

  if (bench_case->in) memcpy(state->memory.pages, state->buffer, bench_case->size);
  if (invoke_memory(state, attr, 0)) return -1;
  if (bench_case->out) memcpy(state->buffer, state->memory.pages, bench_case->size);
  return 0;
}

static int register_dma_buf(const struct state *state) {
  struct tee_ioctl_shm_register_fd_data data = {.fd = state->dma_buf};
  const int fd = ioctl(tee, TEE_IOC_SHM_REGISTER_FD, &data);

  if (fd < 0) return fail("TEE_IOC_SHM_REGISTER_FD: %s", strerror(errno));
  return close(fd) ? fail("close: %s", strerror(errno)) : 0;
}

static int allocate_and_release(size_t size) {
  struct memory memory;

  if (allocate(&memory, size)) return -1;
  release(&memory);
  return 0;
}

static int open_and_close(void) {
  uint32_t session;

  return open_session(&session) ? -1 : close_session(session);
}

static int call(void *argument) {
  const struct state *state = argument;

  switch (state->bench_case->kind) {
    case KIND_INVOKE:
      return invoke_values(state);
    case KIND_TMP:
      return invoke_tmp(state);
    case KIND_SHM_WHOLE:
      return invoke_memory(state, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, 0);
    case KIND_SHM_PART:
      return invoke_memory(state, TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, PART_MARGIN);
    case KIND_SHM_ALLOC:
      return allocate_and_release(state->bench_case->size);
    case KIND_DMABUF:
      return register_dma_buf(state);
    case KIND_SESSION:
      return open_and_close();
  }
  return fail("no such kind");
}

const struct client client_ioctl = {"ioctl", setup, call, teardown};
