/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/random_dispatch.h.
 */
#include <tee_internal_api.h>

#include "random_dispatch.h"

#define PART 1024

TEE_Result random_open(struct random_session *session) {
  (void)session;
  return TEE_SUCCESS;
}

TEE_Result random_generate(struct random_session *session, uint8_t *bytes, size_t *bytes_size) {
  (void)session;
  /* In parts: a TA whose request is too large for OP-TEE's heap panics. */
  for (size_t left = *bytes_size; left > 0;) {
    const size_t part = left < PART ? left : PART;

    TEE_GenerateRandom(bytes, part);
    bytes += part;
    left -= part;
  }
  return TEE_SUCCESS;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  (void)context; /* No session of this TA keeps anything. */
  return random_open_session(NULL, types, params);
}

void TA_CloseSessionEntryPoint(void *context) {
  (void)context;
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return random_invoke(context, command, types, params);
}
