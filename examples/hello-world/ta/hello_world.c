/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/hello_world_dispatch.h.
 */
#include <tee_internal_api.h>

#include "hello_world_dispatch.h"

/* What is kept from one call of a session to the next. */
struct hello_world_session {
  uint32_t calls;
};

/* A session opens. Another result than TEE_SUCCESS refuses it. */
TEE_Result hello_world_open(struct hello_world_session *session) {
  session->calls = 0;
  return TEE_SUCCESS;
}

TEE_Result hello_world_increment(struct hello_world_session *session, uint32_t *number) {
  session->calls++;
  *number += 1;
  return TEE_SUCCESS;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  struct hello_world_session *session = TEE_Malloc(sizeof(*session), TEE_MALLOC_FILL_ZERO);
  if (session == NULL) return TEE_ERROR_OUT_OF_MEMORY;

  const TEE_Result result = hello_world_open_session(session, types, params);
  if (result == TEE_SUCCESS)
    *context = session;
  else
    TEE_Free(session);
  return result;
}

void TA_CloseSessionEntryPoint(void *context) {
  TEE_Free(context);
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return hello_world_invoke(context, command, types, params);
}
