/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_ta.h"

TEE_Result values(struct call *call) {
  uint32_t a = 0;
  uint32_t b = 0;

  for (unsigned int n = 0; n < TEE_NUM_PARAMS; n++) {
    TEE_Param *param = call->params + n;

    switch (TEE_PARAM_TYPE_GET(call->types, n)) {
      case TEE_PARAM_TYPE_VALUE_INPUT:
        a += param->value.a;
        b += param->value.b;
        break;
      case TEE_PARAM_TYPE_VALUE_INOUT:
        a += param->value.a;
        b += param->value.b;
        param->value.a += 1;
        param->value.b += 2;
        break;
      case TEE_PARAM_TYPE_VALUE_OUTPUT:
      case TEE_PARAM_TYPE_NONE:
        break;
      default:
        return TEE_ERROR_BAD_PARAMETERS;
    }
  }
  for (unsigned int n = 0; n < TEE_NUM_PARAMS; n++) {
    if (is_value_out(call, n)) {
      call->params[n].value.a = a;
      call->params[n].value.b = b;
    }
  }
  return TEE_SUCCESS;
}

TEE_Result test_ta_nothing(struct test_ta_session *session) {
  (void)session;
  return TEE_SUCCESS;
}

TEE_Result test_ta_count(struct test_ta_session *session, uint32_t *count, uint32_t *last) {
  const uint32_t given = *count;

  *count = ++session->calls;
  *last = session->last;
  session->last = given;
  return TEE_SUCCESS;
}
