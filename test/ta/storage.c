/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_ta.h"

#define NAME_MAX TEE_OBJECT_ID_MAX_LEN

/* The name in memref 0, out of memory that the normal world could change meanwhile. */
struct name {
  uint8_t bytes[NAME_MAX];
  size_t size;
};

static TEE_Result get_name(const struct call *call, struct name *name) {
  const TEE_Param *param = call->params;

  if (!is_readable(call, 0) || !param->memref.size || param->memref.size > NAME_MAX)
    return TEE_ERROR_BAD_PARAMETERS;
  name->size = param->memref.size;
  TEE_MemMove(name->bytes, param->memref.buffer, name->size);
  return TEE_SUCCESS;
}

static TEE_Result open_object(const struct name *name, uint32_t flags, TEE_ObjectHandle *object) {
  return TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, name->bytes, name->size, flags, object);
}

TEE_Result storage_write(struct call *call) {
  /* ACCESS_WRITE_META: a deletion without it panics. */
  const uint32_t flags =
      TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_ACCESS_WRITE_META | TEE_DATA_FLAG_OVERWRITE;
  TEE_ObjectHandle object = TEE_HANDLE_NULL;
  struct name name = {};
  TEE_Result result = get_name(call, &name);

  if (result) return result;
  if (!is_readable(call, 1) || !rest_is_none(call, 2)) return TEE_ERROR_BAD_PARAMETERS;

  const TEE_Param *data = call->params + 1;

  result = TEE_CreatePersistentObject(TEE_STORAGE_PRIVATE, name.bytes, name.size, flags, TEE_HANDLE_NULL,
                                      NULL, 0, &object);
  if (result) return result;
  if (data->memref.size) result = TEE_WriteObjectData(object, data->memref.buffer, data->memref.size);
  if (result)
    TEE_CloseAndDeletePersistentObject1(object);
  else
    TEE_CloseObject(object);
  return result;
}

TEE_Result storage_read(struct call *call) {
  TEE_ObjectHandle object = TEE_HANDLE_NULL;
  TEE_ObjectInfo info = {};
  struct name name = {};
  TEE_Result result = get_name(call, &name);

  if (result) return result;
  if (!is_writable(call, 1) || !rest_is_none(call, 2)) return TEE_ERROR_BAD_PARAMETERS;

  result = open_object(&name, TEE_DATA_FLAG_ACCESS_READ, &object);
  if (result) return result;
  result = TEE_GetObjectInfo1(object, &info);
  if (!result) result = set_size(call, 1, info.dataSize);
  if (!result && info.dataSize) {
    size_t read = 0;

    result = TEE_ReadObjectData(object, call->params[1].memref.buffer, info.dataSize, &read);
    call->params[1].memref.size = read;
  }
  TEE_CloseObject(object);
  return result;
}

TEE_Result storage_delete(struct call *call) {
  TEE_ObjectHandle object = TEE_HANDLE_NULL;
  struct name name = {};
  TEE_Result result = get_name(call, &name);

  if (result) return result;
  if (!rest_is_none(call, 1)) return TEE_ERROR_BAD_PARAMETERS;
  result = open_object(&name, TEE_DATA_FLAG_ACCESS_WRITE_META, &object);
  return result ? result : TEE_CloseAndDeletePersistentObject1(object);
}
