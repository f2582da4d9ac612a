/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA to try the client with: it has the UUID and the commands of the "hello world" of OP-TEE's examples. */
#include <tee_internal_api.h>

#define INCREMENT 0
#define DECREMENT 1

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **session) {
  (void)types;
  (void)params;
  (void)session;
  return TEE_SUCCESS;
}

void TA_CloseSessionEntryPoint(void *session) {
  (void)session;
}

TEE_Result TA_InvokeCommandEntryPoint(void *session, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  (void)session;
  if (command != INCREMENT && command != DECREMENT) return TEE_ERROR_NOT_SUPPORTED;
  if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INOUT, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
                               TEE_PARAM_TYPE_NONE))
    return TEE_ERROR_BAD_PARAMETERS;
  params[0].value.a += command == INCREMENT ? 1 : -1;
  return TEE_SUCCESS;
}
