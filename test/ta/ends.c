/* SPDX-License-Identifier: BSD-2-Clause */
/* Ends of a TA other than a panic, and what it can write into the log. */
#include <utee_syscalls.h>

#include "test_ta.h"

TEE_Result fault(struct call *call) {
  if (!is_value_in(call, 0) || !rest_is_none(call, 1)) return TEE_ERROR_BAD_PARAMETERS;

  const uint64_t address = (uint64_t)call->params[0].value.b << 32 | call->params[0].value.a;

  return *(volatile uint8_t *)(uintptr_t)address;
}

/* volatile: each call needs its own part of the stack, and its result afterwards. */
static uint32_t deeper(volatile uint32_t *outer) {
  volatile uint32_t own[16] = {*outer + 1};

  return own[0] == 0 ? 0 : deeper(own) + own[0];
}

TEE_Result overflow(struct call *call) {
  volatile uint32_t depth = 0;

  if (!rest_is_none(call, 0)) return TEE_ERROR_BAD_PARAMETERS;
  return deeper(&depth);
}

TEE_Result log_bytes(struct call *call) {
  if (!is_memref(call, 0) || !is_readable(call, 0) || !rest_is_none(call, 1)) return TEE_ERROR_BAD_PARAMETERS;
  _utee_log(call->params[0].memref.buffer, call->params[0].memref.size);
  return TEE_SUCCESS;
}
