/* SPDX-License-Identifier: BSD-2-Clause */
#include <tee_internal_api_extensions.h>

#include "test_ta.h"

#define PAGE_SIZE ((uintptr_t)4096)
#define PAGE_OFFSET(address) ((uintptr_t)(address) & (PAGE_SIZE - 1))

static bool has_rights(void *buffer, size_t size, uint32_t rights) {
  return TEE_CheckMemoryAccessRights(TEE_MEMORY_ACCESS_ANY_OWNER | rights, buffer, size) == TEE_SUCCESS;
}

static uint32_t memref_flags(void *buffer, size_t size) {
  uint32_t flags = 0;

  if (!buffer) return TEST_TA_PARAM_NULL;
  if (!size) return 0;
  if (has_rights(buffer, size, TEE_MEMORY_ACCESS_READ | TEE_MEMORY_ACCESS_SECURE))
    flags |= TEST_TA_PARAM_SECURE;
  if (has_rights(buffer, size, TEE_MEMORY_ACCESS_READ | TEE_MEMORY_ACCESS_NONSECURE))
    flags |= TEST_TA_PARAM_NONSECURE;
  return flags;
}

TEE_Result params(struct call *call) {
  for (unsigned int n = 0; n < TEE_NUM_PARAMS; n++) {
    struct test_ta_param *record = call->session->params + n;
    const TEE_Param *param = call->params + n;

    TEE_MemFill(record, 0, sizeof(*record));
    record->type = TEE_PARAM_TYPE_GET(call->types, n);
    if (is_memref(call, n)) {
      record->flags = memref_flags(param->memref.buffer, param->memref.size);
      record->a = param->memref.size;
      record->b = PAGE_OFFSET(param->memref.buffer);
    } else if (!is_none(call, n) && !is_value_out(call, n)) {
      record->a = param->value.a;
      record->b = param->value.b;
    }
  }
  return TEE_SUCCESS;
}

/* Answers bytes of the TA's own in memref 0 or 1. */
static TEE_Result answer_bytes(struct call *call, unsigned int memref, const void *bytes, size_t size) {
  const TEE_Result result = set_size(call, memref, size);

  if (!result && size) TEE_MemMove(call->params[memref].memref.buffer, bytes, size);
  return result;
}

TEE_Result params_read(struct call *call) {
  if (!is_writable(call, 0) || !rest_is_none(call, 1)) return TEE_ERROR_BAD_PARAMETERS;
  return answer_bytes(call, 0, call->session->params, sizeof(call->session->params));
}

/* The bytes of the pages below memref 0 that parameter 2 names. */
static TEE_Result get_page_bytes(struct call *call, struct range *bytes) {
  const TEE_Param *memref = call->params;
  const uintptr_t address = (uintptr_t)memref->memref.buffer;
  const uintptr_t first = address - PAGE_OFFSET(address);
  const uintptr_t last = address + (memref->memref.size ? memref->memref.size - 1 : 0);
  const uintptr_t end = last - PAGE_OFFSET(last) + PAGE_SIZE;
  const size_t offset = call->params[2].value.a;

  bytes->length = call->params[2].value.b;
  if (!address || offset > end - first || bytes->length > end - first - offset)
    return TEE_ERROR_ACCESS_DENIED;
  bytes->start = (uint8_t *)first + offset;
  return TEE_SUCCESS;
}

TEE_Result peek(struct call *call) {
  struct range bytes = {};

  if (!is_memref(call, 0) || !is_writable(call, 1) || !is_value_in(call, 2) || !rest_is_none(call, 3))
    return TEE_ERROR_BAD_PARAMETERS;

  const TEE_Result result = get_page_bytes(call, &bytes);

  if (result) return result;
  if (bytes.length && !has_rights(bytes.start, bytes.length, TEE_MEMORY_ACCESS_READ))
    return TEE_ERROR_ACCESS_DENIED;
  return answer_bytes(call, 1, bytes.start, bytes.length);
}

TEE_Result poke(struct call *call) {
  struct range bytes = {};

  if (!is_memref(call, 0) || !is_readable(call, 1) || !is_value_in(call, 2) || !rest_is_none(call, 3))
    return TEE_ERROR_BAD_PARAMETERS;

  const TEE_Result result = get_page_bytes(call, &bytes);

  if (result) return result;
  if (bytes.length > call->params[1].memref.size) return TEE_ERROR_BAD_PARAMETERS;
  if (!bytes.length) return TEE_SUCCESS;

  /* The library refuses to write what is an INPUT by its type alone, however it is mapped. */
  const uint32_t rights = is_writable(call, 0) ? TEE_MEMORY_ACCESS_WRITE : TEE_MEMORY_ACCESS_READ;

  if (!has_rights(bytes.start, bytes.length, rights)) return TEE_ERROR_ACCESS_DENIED;
  TEE_MemMove(bytes.start, call->params[1].memref.buffer, bytes.length);
  return TEE_SUCCESS;
}

TEE_Result identity(struct call *call) {
  TEE_Identity client = {};

  if (!is_value_out(call, 0) || !is_writable(call, 1) || !rest_is_none(call, 2))
    return TEE_ERROR_BAD_PARAMETERS;

  const TEE_Result result =
      TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity", &client);

  if (result) return result;

  const TEE_UUID *uuid = &client.uuid;
  uint8_t bytes[16] = {
      uuid->timeLow >> 24, uuid->timeLow >> 16, uuid->timeLow >> 8,          uuid->timeLow,
      uuid->timeMid >> 8,  uuid->timeMid,       uuid->timeHiAndVersion >> 8, uuid->timeHiAndVersion,
  };

  TEE_MemMove(bytes + 8, uuid->clockSeqAndNode, 8);
  call->params[0].value.a = client.login;
  call->params[0].value.b = 0;
  return answer_bytes(call, 1, bytes, sizeof(bytes));
}

TEE_Result open_state(struct call *call) {
  const struct test_ta_session *session = call->session;

  if (!is_value_out(call, 0) || !is_writable(call, 1) || !rest_is_none(call, 2))
    return TEE_ERROR_BAD_PARAMETERS;
  call->params[0].value.a = session->open_a;
  call->params[0].value.b = session->open_b;
  return answer_bytes(call, 1, session->kept, session->kept_size);
}
