/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_ta.h"

TEE_Result forward(struct call *call) {
  static const TEE_UUID uuid = NODE_OPTEE_TEST_TA_UUID;
  struct test_ta_session *session = call->session;
  TEE_Param params[TEE_NUM_PARAMS] = {};
  TEE_Result result = TEE_SUCCESS;
  uint32_t origin = 0;

  if (!is_value_in(call, 0)) return TEE_ERROR_BAD_PARAMETERS;
  if (session->other == TEE_HANDLE_NULL) {
    result = TEE_OpenTASession(&uuid, TEE_TIMEOUT_INFINITE, 0, NULL, &session->other, &origin);
    if (result) {
      session->other = TEE_HANDLE_NULL;
      return result;
    }
  }

  const uint32_t types =
      TEE_PARAM_TYPES(TEE_PARAM_TYPE_GET(call->types, 1), TEE_PARAM_TYPE_GET(call->types, 2),
                      TEE_PARAM_TYPE_GET(call->types, 3), TEE_PARAM_TYPE_NONE);

  TEE_MemMove(params, call->params + 1, 3 * sizeof(params[0]));
  result = TEE_InvokeTACommand(session->other, TEE_TIMEOUT_INFINITE, call->params[0].value.a, types, params,
                               &origin);
  TEE_MemMove(call->params + 1, params, 3 * sizeof(params[0]));
  if (result == TEE_ERROR_TARGET_DEAD) {
    TEE_CloseTASession(session->other);
    session->other = TEE_HANDLE_NULL;
  }
  return result;
}
