/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/secure_storage_dispatch.h.
 */
#include <tee_internal_api.h>

#include "secure_storage_dispatch.h"

TEE_Result secure_storage_open(struct secure_storage_session *session) {
  (void)session;
  return TEE_SUCCESS;
}

static size_t length(const char *text) {
  size_t size = 0;

  while (text[size] != '\0') size++;
  return size;
}

TEE_Result secure_storage_write(struct secure_storage_session *session, const char *name, const uint8_t *data,
                                size_t data_size) {
  TEE_ObjectHandle object = TEE_HANDLE_NULL;

  (void)session;
  /* With its data at once: who reads finds the old object or the new one, also after a power cut. */
  const TEE_Result result =
      TEE_CreatePersistentObject(TEE_STORAGE_PRIVATE, name, length(name), TEE_DATA_FLAG_OVERWRITE,
                                 TEE_HANDLE_NULL, data, data_size, &object);

  if (result == TEE_SUCCESS) TEE_CloseObject(object);
  return result;
}

static TEE_Result read_object(TEE_ObjectHandle object, uint8_t *data, size_t *data_size) {
  TEE_ObjectInfo info;
  const size_t room = *data_size;
  TEE_Result result = TEE_GetObjectInfo1(object, &info);

  if (result != TEE_SUCCESS) return result;
  *data_size = info.dataSize;
  if (info.dataSize > room) return TEE_ERROR_SHORT_BUFFER;
  return TEE_ReadObjectData(object, data, info.dataSize, data_size);
}

TEE_Result secure_storage_read(struct secure_storage_session *session, const char *name, uint8_t *data,
                               size_t *data_size) {
  TEE_ObjectHandle object = TEE_HANDLE_NULL;
  TEE_Result result =
      TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, name, length(name), TEE_DATA_FLAG_ACCESS_READ, &object);

  (void)session;
  if (result != TEE_SUCCESS) return result;
  result = read_object(object, data, data_size);
  TEE_CloseObject(object);
  return result;
}

TEE_Result secure_storage_remove(struct secure_storage_session *session, const char *name) {
  TEE_ObjectHandle object = TEE_HANDLE_NULL;
  const TEE_Result result = TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, name, length(name),
                                                     TEE_DATA_FLAG_ACCESS_WRITE_META, &object);

  (void)session;
  return result == TEE_SUCCESS ? TEE_CloseAndDeletePersistentObject1(object) : result;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  (void)context; /* No session of this TA keeps anything. */
  return secure_storage_open_session(NULL, types, params);
}

void TA_CloseSessionEntryPoint(void *context) {
  (void)context;
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return secure_storage_invoke(context, command, types, params);
}
