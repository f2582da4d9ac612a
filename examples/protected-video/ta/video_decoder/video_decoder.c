/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/video_decoder_dispatch.h.
 */
#include <tee_internal_api.h>
#include <tee_internal_api_extensions.h>

#include "video_decoder_dispatch.h"

TEE_Result video_decoder_open(struct video_decoder_session *session) {
  (void)session;
  return TEE_SUCCESS;
}

TEE_Result video_decoder_decode(struct video_decoder_session *session, const uint8_t *runs, size_t runs_size,
                                uint8_t *frame, size_t *frame_size) {
  const size_t room = *frame_size;
  size_t size = 0;

  (void)session;
  if (TEE_CheckMemoryAccessRights(
          TEE_MEMORY_ACCESS_WRITE | TEE_MEMORY_ACCESS_SECURE | TEE_MEMORY_ACCESS_ANY_OWNER, frame, room))
    return VIDEO_DECODER_NOT_PROTECTED;
  if (runs_size % 2 != 0) return TEE_ERROR_BAD_FORMAT;
  for (size_t i = 0; i < runs_size; i += 2) {
    const size_t count = runs[i]; /* Read once: the client can change it meanwhile. */

    if (size + count <= room) TEE_MemFill(frame + size, runs[i + 1], count);
    size += count;
  }
  *frame_size = size; /* More than the room: the dispatcher answers TEE_ERROR_SHORT_BUFFER. */
  return TEE_SUCCESS;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  (void)context; /* No session of this TA keeps anything. */
  return video_decoder_open_session(NULL, types, params);
}

void TA_CloseSessionEntryPoint(void *context) {
  (void)context;
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return video_decoder_invoke(context, command, types, params);
}
