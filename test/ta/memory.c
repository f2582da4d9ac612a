/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_ta.h"

TEE_Result touch(struct call *call) {
  for (unsigned int n = 0; n < TEE_NUM_PARAMS; n++) {
    if (!is_none(call, n) && !is_memref(call, n)) return TEE_ERROR_BAD_PARAMETERS;
  }
  for (unsigned int n = 0; n < TEE_NUM_PARAMS; n++) {
    TEE_Param *param = call->params + n;

    if (is_none(call, n) || !param->memref.size) continue;

    /* volatile: an input's bytes are to be read though nobody uses them. */
    volatile uint8_t *first = param->memref.buffer;
    volatile uint8_t *last = first + param->memref.size - 1;

    if (!is_writable(call, n)) {
      (void)*first;
      (void)*last;
    } else if (is_readable(call, n)) {
      *first += 1;
      if (last != first) *last += 1;
    } else {
      *first = 1;
      *last = 1;
    }
  }
  return TEE_SUCCESS;
}

TEE_Result transform(struct call *call) {
  struct range range = {};

  if (!is_readable(call, 0) || !is_writable(call, 0) || !rest_is_none(call, 2))
    return TEE_ERROR_BAD_PARAMETERS;

  TEE_Result result = get_range(call, 0, 1, &range);

  if (result) return result;
  for (size_t i = 0; i < range.length; i++) range.start[i] ^= 0xa5;
  write_back(range.start, range.length);
  return TEE_SUCCESS;
}

TEE_Result copy(struct call *call) {
  struct range range = {};
  size_t offset = 0;

  if (!is_readable(call, 0) || !is_writable(call, 1)) return TEE_ERROR_BAD_PARAMETERS;
  if (is_value_in(call, 3))
    offset = call->params[3].value.a;
  else if (!is_none(call, 3))
    return TEE_ERROR_BAD_PARAMETERS;

  TEE_Result result = get_range(call, 0, 2, &range);

  if (!result) result = set_size(call, 1, offset + range.length);
  if (result || !range.length) return result;

  uint8_t *target = (uint8_t *)call->params[1].memref.buffer + offset;

  TEE_MemMove(target, range.start, range.length);
  write_back(target, range.length);
  return TEE_SUCCESS;
}

TEE_Result checksum(struct call *call) {
  struct range range = {};
  uint32_t sum = 0;
  uint32_t hash = 0x811c9dc5;

  if (!is_readable(call, 0) || !is_value_out(call, 1) || !rest_is_none(call, 3))
    return TEE_ERROR_BAD_PARAMETERS;

  TEE_Result result = get_range(call, 0, 2, &range);

  if (result) return result;
  for (size_t i = 0; i < range.length; i++) {
    const uint8_t byte = range.start[i];

    sum += byte;
    hash = (hash ^ byte) * 0x01000193;
  }
  call->params[1].value.a = sum;
  call->params[1].value.b = hash;
  return TEE_SUCCESS;
}

TEE_Result fill(struct call *call) {
  struct range range = {};

  if (!is_writable(call, 0) || !is_value_in(call, 1) || !rest_is_none(call, 3))
    return TEE_ERROR_BAD_PARAMETERS;

  TEE_Result result = get_range(call, 0, 2, &range);

  if (result || !range.length) return result;
  TEE_MemFill(range.start, call->params[1].value.a & 0xff, range.length);
  write_back(range.start, range.length);
  return TEE_SUCCESS;
}

TEE_Result write_exactly(struct call *call) {
  if (!is_writable(call, 0) || !is_value_in(call, 1) || !rest_is_none(call, 2))
    return TEE_ERROR_BAD_PARAMETERS;

  const size_t size = call->params[1].value.a;
  TEE_Result result = set_size(call, 0, size);

  if (result) return result;

  uint8_t *bytes = call->params[0].memref.buffer;

  for (size_t i = 0; i < size; i++) bytes[i] = i % 251;
  write_back(bytes, size);
  return TEE_SUCCESS;
}
