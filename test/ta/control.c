/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_ta.h"

#define SLICE_MS 10

static uint64_t now_ms(void) {
  TEE_Time time = {};

  TEE_GetSystemTime(&time);
  return (uint64_t)time.seconds * 1000 + time.millis;
}

/* VALUE_INPUT {a: milliseconds} and an optional VALUE_OUTPUT. */
static bool takes_time(const struct call *call) {
  return is_value_in(call, 0) && (is_none(call, 1) || is_value_out(call, 1)) && rest_is_none(call, 2);
}

static void set_output(struct call *call, uint32_t a, uint32_t b) {
  if (is_value_out(call, 1)) {
    call->params[1].value.a = a;
    call->params[1].value.b = b;
  }
}

TEE_Result wait_unmasked(struct call *call) {
  if (!takes_time(call)) return TEE_ERROR_BAD_PARAMETERS;

  const uint32_t milliseconds = call->params[0].value.a;
  const uint64_t start = now_ms();
  const bool was_masked = TEE_UnmaskCancellation();
  TEE_Result result = TEE_SUCCESS;

  while (true) {
    const uint64_t waited = now_ms() - start;

    if (TEE_GetCancellationFlag()) {
      result = TEE_ERROR_CANCEL;
      break;
    }
    if (waited >= milliseconds) break;

    const uint64_t left = milliseconds - waited;

    result = TEE_Wait(left < SLICE_MS ? left : SLICE_MS);
    if (result) break;
  }
  if (was_masked) TEE_MaskCancellation();
  set_output(call, now_ms() - start, result == TEE_ERROR_CANCEL);
  return result;
}

TEE_Result wait_masked(struct call *call) {
  if (!takes_time(call)) return TEE_ERROR_BAD_PARAMETERS;

  const uint64_t start = now_ms();

  TEE_MaskCancellation();

  const TEE_Result result = TEE_Wait(call->params[0].value.a);

  set_output(call, now_ms() - start, result == TEE_ERROR_CANCEL);
  return result != TEE_SUCCESS ? result : call->params[0].value.b;
}

TEE_Result busy(struct call *call) {
  if (!takes_time(call)) return TEE_ERROR_BAD_PARAMETERS;

  const uint64_t end = now_ms() + call->params[0].value.a;
  uint32_t state = 0x9e3779b9;
  uint32_t rounds = 0;

  while (now_ms() < end) {
    for (unsigned int i = 0; i < 10000; i++) {
      state ^= state << 13;
      state ^= state >> 17;
      state ^= state << 5;
    }
    rounds++;
  }
  set_output(call, rounds, state);
  return TEE_SUCCESS;
}

TEE_Result panic(struct call *call) {
  if ((!is_none(call, 0) && !is_value_in(call, 0)) || !rest_is_none(call, 1)) return TEE_ERROR_BAD_PARAMETERS;
  TEE_Panic(is_none(call, 0) ? 0 : call->params[0].value.a);
  return TEE_ERROR_BAD_STATE;
}

TEE_Result answer_result(struct call *call) {
  const uint32_t type2 = TEE_PARAM_TYPE_GET(call->types, 2);
  const bool has_memref = is_writable(call, 1);
  const bool has_value = type2 == TEE_PARAM_TYPE_VALUE_OUTPUT || type2 == TEE_PARAM_TYPE_VALUE_INOUT;

  if (!is_value_in(call, 0) || (!has_memref && !is_none(call, 1)) || (!has_value && !is_none(call, 2)) ||
      !rest_is_none(call, 3))
    return TEE_ERROR_BAD_PARAMETERS;

  const uint32_t result = call->params[0].value.a;
  const uint32_t size = call->params[0].value.b;

  if (has_memref) call->params[1].memref.size = size;
  if (has_value) {
    call->params[2].value.a = ~result;
    call->params[2].value.b = size;
  }
  return result;
}
