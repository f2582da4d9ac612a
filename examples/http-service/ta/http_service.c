/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/http_service_dispatch.h.
 */
#include <tee_internal_api.h>

#include "http_service_dispatch.h"

TEE_Result http_service_open(struct http_service_session *session) {
  (void)session;
  return TEE_SUCCESS;
}

static TEE_Result stretch(TEE_OperationHandle operation, uint32_t rounds, uint8_t digest[32]) {
  for (uint32_t i = 0; i < rounds; i++) {
    size_t size = 32;

    if (TEE_GetCancellationFlag()) return TEE_ERROR_CANCEL;
    const TEE_Result result = TEE_DigestDoFinal(operation, digest, size, digest, &size);
    if (result != TEE_SUCCESS) return result;
  }
  return TEE_SUCCESS;
}

TEE_Result http_service_stretch(struct http_service_session *session, uint32_t rounds, const uint8_t *data,
                                size_t data_size, uint8_t hash[HTTP_SERVICE_STRETCH_HASH_SIZE]) {
  TEE_OperationHandle operation = TEE_HANDLE_NULL;
  uint8_t digest[32]; /* Not in hash, which is the client's memory. */
  size_t size = sizeof(digest);

  (void)session;
  if (rounds == 0) return TEE_ERROR_BAD_PARAMETERS;

  TEE_Result result = TEE_AllocateOperation(&operation, TEE_ALG_SHA256, TEE_MODE_DIGEST, 0);

  if (result != TEE_SUCCESS) return result;
  TEE_UnmaskCancellation(); /* Without it the flag is always false. */
  result = TEE_DigestDoFinal(operation, data, data_size, digest, &size);
  if (result == TEE_SUCCESS) result = stretch(operation, rounds - 1, digest);
  if (result == TEE_SUCCESS) TEE_MemMove(hash, digest, sizeof(digest));
  TEE_FreeOperation(operation);
  return result;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  (void)context; /* No session of this TA keeps anything. */
  return http_service_open_session(NULL, types, params);
}

void TA_CloseSessionEntryPoint(void *context) {
  (void)context;
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return http_service_invoke(context, command, types, params);
}
