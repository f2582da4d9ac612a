/* SPDX-License-Identifier: BSD-2-Clause */
/* The same through libteec, as its documentation says. */
#include <node_optee_test_ta.h>
#include <stdlib.h>
#include <string.h>
#include <tee_client_api.h>
#include <tee_client_api_extensions.h>
#include <unistd.h>

#include "common.h"

struct state {
  const struct bench_case *bench_case;
  TEEC_Session *session;
  TEEC_SharedMemory memory;
  bool has_memory;
  uint8_t *buffer;
  int dma_buf;
};

static const TEEC_UUID uuid = NODE_OPTEE_TEST_TA_UUID;
static TEEC_Context context;
static bool has_context;
static TEEC_Session sessions[THREADS_MAX];
static bool has_session[THREADS_MAX];

static int check(const char *function, TEEC_Result result) {
  return result ? fail("%s: %#x", function, result) : 0;
}

static int open_session(TEEC_Session *session) {
  uint32_t origin;

  return check("TEEC_OpenSession",
               TEEC_OpenSession(&context, session, &uuid, TEEC_LOGIN_PUBLIC, NULL, NULL, &origin));
}

static int allocate(TEEC_SharedMemory *memory, size_t size) {
  *memory = (TEEC_SharedMemory){.size = size, .flags = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT};
  return check("TEEC_AllocateSharedMemory", TEEC_AllocateSharedMemory(&context, memory));
}

static void teardown(void *argument) {
  struct state *state = argument;

  if (state->has_memory) TEEC_ReleaseSharedMemory(&state->memory);
  if (state->dma_buf >= 0) close(state->dma_buf);
  free(state->buffer);
  free(state);
}

static int setup(const struct bench_case *bench_case, unsigned int thread, void **result) {
  if (!has_context) {
    if (check("TEEC_InitializeContext", TEEC_InitializeContext(NULL, &context))) return -1;
    has_context = true;
  }
  if (!has_session[thread]) {
    if (open_session(sessions + thread)) return -1;
    has_session[thread] = true;
  }

  struct state *state = calloc(1, sizeof(*state));
  int failed = 0;

  if (!state) return fail("out of memory");
  state->bench_case = bench_case;
  state->session = sessions + thread;
  state->dma_buf = -1;
  if (bench_case->kind == KIND_TMP) {
    state->buffer = malloc(bench_case->size);
    failed = state->buffer ? 0 : fail("out of memory");
    if (!failed) memset(state->buffer, 0, bench_case->size);
  }
  if (!failed && (bench_case->kind == KIND_SHM_WHOLE || bench_case->kind == KIND_SHM_PART)) {
    const size_t margins = bench_case->kind == KIND_SHM_PART ? 2 * PART_MARGIN : 0;

    failed = allocate(&state->memory, bench_case->size + margins);
    state->has_memory = !failed;
  }
  if (!failed && bench_case->kind == KIND_DMABUF) failed = alloc_protected(bench_case->size, &state->dma_buf);
  if (failed) {
    teardown(state);
    return failed;
  }
  *result = state;
  return 0;
}

static int invoke(struct state *state, uint32_t command, TEEC_Operation *operation) {
  uint32_t origin;

  return check("TEEC_InvokeCommand", TEEC_InvokeCommand(state->session, command, operation, &origin));
}

static int invoke_values(struct state *state) {
  TEEC_Operation operation = {};
  uint32_t types[4] = {};

  for (unsigned int i = 0; i < state->bench_case->values; i++) {
    types[i] = TEEC_VALUE_INOUT;
    operation.params[i].value.a = 41;
    operation.params[i].value.b = 1;
  }
  operation.paramTypes = TEEC_PARAM_TYPES(types[0], types[1], types[2], types[3]);
  return invoke(state, state->bench_case->values ? TEST_TA_VALUES : TEST_TA_NOTHING, &operation);
}

static int invoke_tmp(struct state *state) {
  const struct bench_case *bench_case = state->bench_case;
  const uint32_t type = !bench_case->out  ? TEEC_MEMREF_TEMP_INPUT
                        : !bench_case->in ? TEEC_MEMREF_TEMP_OUTPUT
                                          : TEEC_MEMREF_TEMP_INOUT;
  TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(type, TEEC_NONE, TEEC_NONE, TEEC_NONE)};

  operation.params[0].tmpref.buffer = state->buffer;
  operation.params[0].tmpref.size = bench_case->size;
  return invoke(state, TEST_TA_TOUCH, &operation);
}

static int invoke_memory(struct state *state) {
  const bool whole = state->bench_case->kind == KIND_SHM_WHOLE;
  const uint32_t type = whole ? TEEC_MEMREF_WHOLE : TEEC_MEMREF_PARTIAL_INOUT;
  TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(type, TEEC_NONE, TEEC_NONE, TEEC_NONE)};

  operation.params[0].memref.parent = &state->memory;
  operation.params[0].memref.offset = whole ? 0 : PART_MARGIN;
  operation.params[0].memref.size = state->bench_case->size;
  return invoke(state, TEST_TA_TOUCH, &operation);
}

static int register_dma_buf(struct state *state) {
  TEEC_SharedMemory memory = {.flags = TEEC_MEM_INPUT | TEEC_MEM_OUTPUT};

  if (check("TEEC_RegisterSharedMemoryFileDescriptor",
            TEEC_RegisterSharedMemoryFileDescriptor(&context, &memory, state->dma_buf)))
    return -1;
  TEEC_ReleaseSharedMemory(&memory);
  return 0;
}

static int allocate_and_release(size_t size) {
  TEEC_SharedMemory memory;

  if (allocate(&memory, size)) return -1;
  TEEC_ReleaseSharedMemory(&memory);
  return 0;
}

static int open_and_close(void) {
  TEEC_Session session;

  if (open_session(&session)) return -1;
  TEEC_CloseSession(&session);
  return 0;
}

static int call(void *argument) {
  struct state *state = argument;

  switch (state->bench_case->kind) {
    case KIND_INVOKE:
      return invoke_values(state);
    case KIND_TMP:
      return invoke_tmp(state);
    case KIND_SHM_WHOLE:
    case KIND_SHM_PART:
      return invoke_memory(state);
    case KIND_SHM_ALLOC:
      return allocate_and_release(state->bench_case->size);
    case KIND_DMABUF:
      return register_dma_buf(state);
    case KIND_SESSION:
      return open_and_close();
  }
  return fail("no such kind");
}

const struct client client_libteec = {"libteec", setup, call, teardown};
