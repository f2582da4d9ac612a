/* SPDX-License-Identifier: BSD-2-Clause */
/* What a TA does that means its client no good, besides panics, results and sizes of any kind. */
#include "test_ta.h"

TEE_Result half(struct call *call) {
  if (!is_writable(call, 0) || !is_value_in(call, 1) || !rest_is_none(call, 2))
    return TEE_ERROR_BAD_PARAMETERS;
  TEE_MemFill(call->params[0].memref.buffer, 0xee, call->params[0].memref.size / 2);
  TEE_Panic(call->params[1].value.a);
  return TEE_ERROR_BAD_STATE;
}

TEE_Result scribble(struct call *call) {
  if (!is_writable(call, 0) || !is_readable(call, 1) || !is_writable(call, 1) || !rest_is_none(call, 2) ||
      !call->params[1].memref.size)
    return TEE_ERROR_BAD_PARAMETERS;

  /* volatile: the client ends it from the other side. */
  volatile uint8_t *stop = call->params[1].memref.buffer;
  uint8_t *bytes = call->params[0].memref.buffer;
  const size_t size = call->params[0].memref.size;

  TEE_MaskCancellation();
  for (uint8_t round = 0; !*stop; round++) {
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(round * 31 + i);
    TEE_Wait(1);
  }
  return TEE_SUCCESS;
}

TEE_Result relay(struct call *call) {
  struct test_ta_session *session = call->session;
  uint32_t origin = 0;
  TEE_UUID uuid = {};

  if (!is_value_in(call, 0) || !is_readable(call, 1) || !rest_is_none(call, 2) ||
      call->params[1].memref.size != sizeof(uuid))
    return TEE_ERROR_BAD_PARAMETERS;
  TEE_MemMove(&uuid, call->params[1].memref.buffer, sizeof(uuid));
  session->random = call->params[0].value.a | 1;
  session->damage = call->params[0].value.b;
  return TEE_OpenTASession(&uuid, TEE_TIMEOUT_INFINITE, 0, NULL, &session->relay, &origin);
}

/* Xorshift: the same numbers for the same seed. */
static uint32_t random_below(struct test_ta_session *session, uint32_t limit) {
  uint32_t x = session->random;

  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  session->random = x;
  return (x >> 8) % limit;
}

static void damage_bytes(struct test_ta_session *session, TEE_Param *param, size_t size) {
  uint8_t *bytes = param->memref.buffer;
  const bool all = random_below(session, 4) == 0;
  const uint32_t count = all ? size : 1 + random_below(session, 4);

  if (!size) return;
  for (uint32_t i = 0; i < count; i++)
    bytes[all ? i : random_below(session, size)] = (uint8_t)random_below(session, 256);
}

static size_t damaged_size(struct test_ta_session *session, size_t room) {
  static const uint32_t odd[] = {0, 1, 3, 4, 5, 7, 0x7fffffff, 0x80000000, 0xffffffff};

  switch (random_below(session, 3)) {
    case 0:
      return odd[random_below(session, sizeof(odd) / sizeof(odd[0]))];
    case 1:
      return room + 1 + random_below(session, 64);
    default:
      return room ? random_below(session, room) : 0;
  }
}

static TEE_Result damaged_result(struct test_ta_session *session) {
  static const TEE_Result results[] = {TEE_ERROR_SHORT_BUFFER, TEE_ERROR_TARGET_DEAD, TEE_ERROR_OUT_OF_MEMORY,
                                       TEE_ERROR_CANCEL, 0x80000001};

  return results[random_below(session, sizeof(results) / sizeof(results[0]))];
}

TEE_Result relay_call(struct call *call, uint32_t command) {
  struct test_ta_session *session = call->session;
  TEE_Result result = TEE_SUCCESS;
  uint32_t origin = 0;
  size_t room[TEE_NUM_PARAMS] = {};
  unsigned int n = 0;

  const bool damages = session->damage && random_below(session, session->damage) == 0;
  const uint32_t kind = random_below(session, 8);

  for (n = 0; n < TEE_NUM_PARAMS; n++)
    if (is_memref(call, n)) room[n] = call->params[n].memref.size;
  /* Now and then it only says that all was done. */
  if (!damages || kind != 0)
    result = TEE_InvokeTACommand(session->relay, TEE_TIMEOUT_INFINITE, command, call->types, call->params,
                                 &origin);
  if (!damages) return result;
  if (kind == 1 && random_below(session, 4) == 0) TEE_Panic(0xbad);
  if (kind == 2) return damaged_result(session);
  n = random_below(session, 2) ? 2 : 0;
  if (!is_writable(call, n)) n = 0;
  if (!is_writable(call, n)) return result;
  if (kind == 3 || kind == 4) {
    call->params[n].memref.size = damaged_size(session, room[n]);
  } else {
    const size_t size = call->params[n].memref.size;

    damage_bytes(session, call->params + n, size < room[n] ? size : room[n]);
  }
  return result;
}
