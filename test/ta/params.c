/* SPDX-License-Identifier: BSD-2-Clause */
#include <tee_internal_api_extensions.h>

#include "test_ta.h"

static uint32_t type_of(const struct call *call, unsigned int n) {
  return TEE_PARAM_TYPE_GET(call->types, n);
}

bool is_none(const struct call *call, unsigned int n) {
  return type_of(call, n) == TEE_PARAM_TYPE_NONE;
}

bool is_value_in(const struct call *call, unsigned int n) {
  return type_of(call, n) == TEE_PARAM_TYPE_VALUE_INPUT;
}

bool is_value_out(const struct call *call, unsigned int n) {
  return type_of(call, n) == TEE_PARAM_TYPE_VALUE_OUTPUT;
}

bool is_readable(const struct call *call, unsigned int n) {
  return type_of(call, n) == TEE_PARAM_TYPE_MEMREF_INPUT || type_of(call, n) == TEE_PARAM_TYPE_MEMREF_INOUT;
}

bool is_writable(const struct call *call, unsigned int n) {
  return type_of(call, n) == TEE_PARAM_TYPE_MEMREF_OUTPUT || type_of(call, n) == TEE_PARAM_TYPE_MEMREF_INOUT;
}

bool is_memref(const struct call *call, unsigned int n) {
  return is_readable(call, n) || is_writable(call, n);
}

bool rest_is_none(const struct call *call, unsigned int first) {
  for (unsigned int n = first; n < TEE_NUM_PARAMS; n++) {
    if (!is_none(call, n)) return false;
  }
  return true;
}

TEE_Result get_range(const struct call *call, unsigned int memref, unsigned int n, struct range *range) {
  const TEE_Param *param = call->params + memref;

  range->start = param->memref.buffer;
  range->length = param->memref.size;
  if (is_none(call, n)) return TEE_SUCCESS;
  if (!is_value_in(call, n)) return TEE_ERROR_BAD_PARAMETERS;

  const size_t offset = call->params[n].value.a;
  const size_t length = call->params[n].value.b;

  if (offset > range->length || length > range->length - offset) return TEE_ERROR_BAD_PARAMETERS;
  range->start += offset;
  range->length = length;
  return TEE_SUCCESS;
}

TEE_Result set_size(const struct call *call, unsigned int memref, size_t size) {
  TEE_Param *param = call->params + memref;
  const bool fits = size <= param->memref.size;

  param->memref.size = size;
  return fits ? TEE_SUCCESS : TEE_ERROR_SHORT_BUFFER;
}

void write_back(void *start, size_t length) {
#ifdef CFG_CACHE_API
  if (length && TEE_CacheFlush(start, length)) EMSG("cache of %zu bytes not written back", length);
#else
  (void)start;
  (void)length;
#endif
}
