/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/video_display_dispatch.h.
 */
#include <tee_internal_api.h>

#include "video_display_dispatch.h"

TEE_Result video_display_open(struct video_display_session *session) {
  (void)session;
  return TEE_SUCCESS;
}

TEE_Result video_display_show(struct video_display_session *session, const uint8_t *frame, size_t frame_size,
                              uint8_t hash[VIDEO_DISPLAY_SHOW_HASH_SIZE]) {
  TEE_OperationHandle operation = TEE_HANDLE_NULL;
  size_t size = VIDEO_DISPLAY_SHOW_HASH_SIZE;
  TEE_Result result = TEE_AllocateOperation(&operation, TEE_ALG_SHA256, TEE_MODE_DIGEST, 0);

  (void)session;
  if (result != TEE_SUCCESS) return result;
  result = TEE_DigestDoFinal(operation, frame, frame_size, hash, &size);
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
  return video_display_open_session(NULL, types, params);
}

void TA_CloseSessionEntryPoint(void *context) {
  (void)context;
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return video_display_invoke(context, command, types, params);
}
