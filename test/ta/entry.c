/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_ta.h"

/* What values.ta.mjs describes. */
static TEE_Result described(struct call *call) {
  return test_ta_invoke(call->session, call->command, call->types, call->params);
}

static const command_function commands[] = {
    [TEST_TA_NOTHING] = described,
    [TEST_TA_VALUES] = values,
    [TEST_TA_TOUCH] = touch,
    [TEST_TA_TRANSFORM] = transform,
    [TEST_TA_COPY] = copy,
    [TEST_TA_CHECKSUM] = checksum,
    [TEST_TA_FILL] = fill,
    [TEST_TA_WRITE] = write_exactly,
    [TEST_TA_RESULT] = answer_result,
    [TEST_TA_WAIT] = wait_unmasked,
    [TEST_TA_WAIT_MASKED] = wait_masked,
    [TEST_TA_BUSY] = busy,
    [TEST_TA_PANIC] = panic,
    [TEST_TA_COUNT] = described,
    [TEST_TA_PARAMS] = params,
    [TEST_TA_PARAMS_READ] = params_read,
    [TEST_TA_PEEK] = peek,
    [TEST_TA_POKE] = poke,
    [TEST_TA_IDENTITY] = identity,
    [TEST_TA_OPEN_STATE] = open_state,
    [TEST_TA_STORAGE_WRITE] = storage_write,
    [TEST_TA_STORAGE_READ] = storage_read,
    [TEST_TA_STORAGE_DELETE] = storage_delete,
    [TEST_TA_FORWARD] = forward,
    [TEST_TA_FAULT] = fault,
    [TEST_TA_OVERFLOW] = overflow,
    [TEST_TA_LOG] = log_bytes,
    [TEST_TA_HALF] = half,
    [TEST_TA_SCRIBBLE] = scribble,
    [TEST_TA_RELAY] = relay,
};

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

/* Keeps the bytes of parameter 2 and answers them in reverse in parameter 3. */
static TEE_Result keep_bytes(struct call *call) {
  struct test_ta_session *session = call->session;

  if (!is_none(call, 2)) {
    const TEE_Param *given = call->params + 2;

    session->kept_size = given->memref.size < TEST_TA_KEPT_MAX ? given->memref.size : TEST_TA_KEPT_MAX;
    if (session->kept_size) TEE_MemMove(session->kept, given->memref.buffer, session->kept_size);
  }
  if (is_none(call, 3)) return TEE_SUCCESS;

  const TEE_Result result = set_size(call, 3, session->kept_size);

  if (result) return result;

  uint8_t *target = call->params[3].memref.buffer;

  for (size_t i = 0; i < session->kept_size; i++) target[i] = session->kept[session->kept_size - 1 - i];
  return TEE_SUCCESS;
}

/* Without parameters: those of the opening can be left out, which no description says. */
TEE_Result test_ta_open(struct test_ta_session *session) {
  session->other = TEE_HANDLE_NULL;
  session->relay = TEE_HANDLE_NULL;
  return TEE_SUCCESS;
}

static TEE_Result open_session(struct call *call) {
  const uint32_t type1 = TEE_PARAM_TYPE_GET(call->types, 1);
  const uint32_t type2 = TEE_PARAM_TYPE_GET(call->types, 2);
  const uint32_t type3 = TEE_PARAM_TYPE_GET(call->types, 3);

  if ((!is_none(call, 0) && !is_value_in(call, 0)) ||
      (type1 != TEE_PARAM_TYPE_NONE && type1 != TEE_PARAM_TYPE_VALUE_INOUT) ||
      (type2 != TEE_PARAM_TYPE_NONE && type2 != TEE_PARAM_TYPE_MEMREF_INPUT) ||
      (type3 != TEE_PARAM_TYPE_NONE && type3 != TEE_PARAM_TYPE_MEMREF_OUTPUT))
    return TEE_ERROR_BAD_PARAMETERS;

  TEE_Result result = params(call);

  if (result) return result;
  if (!is_none(call, 1)) {
    call->params[1].value.a += 1;
    call->params[1].value.b += 2;
  }
  result = keep_bytes(call);
  if (result || is_none(call, 0)) return result;
  call->session->open_a = call->params[0].value.a;
  call->session->open_b = call->params[0].value.b;
  result = TEE_Wait(call->session->open_b);
  return result ? result : call->session->open_a;
}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param parameters[TEE_NUM_PARAMS], void **context) {
  struct test_ta_session *session = TEE_Malloc(sizeof(*session), TEE_MALLOC_FILL_ZERO);

  if (!session) return TEE_ERROR_OUT_OF_MEMORY;
  test_ta_open(session);

  struct call call = {session, 0, types, parameters};
  const TEE_Result result = open_session(&call);

  if (result)
    TEE_Free(session);
  else
    *context = session;
  return result;
}

void TA_CloseSessionEntryPoint(void *context) {
  struct test_ta_session *session = context;

  if (session->other != TEE_HANDLE_NULL) TEE_CloseTASession(session->other);
  if (session->relay != TEE_HANDLE_NULL) TEE_CloseTASession(session->relay);
  TEE_Free(session);
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param parameters[TEE_NUM_PARAMS]) {
  struct call call = {context, command, types, parameters};

  if (call.session->relay != TEE_HANDLE_NULL) return relay_call(&call, command);
  if (command >= sizeof(commands) / sizeof(commands[0])) return TEE_ERROR_NOT_SUPPORTED;
  return commands[command](&call);
}
