/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the test TA share. */
#ifndef TEST_TA_H
#define TEST_TA_H

#include <node_optee_test_ta.h>
#include <stdbool.h>
#include <tee_internal_api.h>

#include "test_ta_dispatch.h"

#define TEST_TA_KEPT_MAX 64

struct test_ta_session {
  uint32_t calls; /* of COUNT */
  uint32_t last;
  struct test_ta_param params[TEE_NUM_PARAMS];
  uint32_t open_a;
  uint32_t open_b;
  uint8_t kept[TEST_TA_KEPT_MAX];
  uint32_t kept_size;
  TEE_TASessionHandle other; /* of FORWARD, opened at its first call */
  TEE_TASessionHandle relay; /* of RELAY */
  uint32_t random;
  uint32_t damage; /* one in so many answers */
};

/* A call's parameters with their types. */
struct call {
  struct test_ta_session *session;
  uint32_t command;
  uint32_t types;
  TEE_Param *params;
};

typedef TEE_Result (*command_function)(struct call *call);

/* params.c: what a parameter is. */
bool is_none(const struct call *call, unsigned int n);
bool is_value_in(const struct call *call, unsigned int n);
bool is_value_out(const struct call *call, unsigned int n);
bool is_memref(const struct call *call, unsigned int n);
bool is_readable(const struct call *call, unsigned int n);
bool is_writable(const struct call *call, unsigned int n);
/* Whether parameters `first` and above are all NONE. */
bool rest_is_none(const struct call *call, unsigned int first);

/* Bytes of a memref as told by the RANGE in parameter `n`. */
struct range {
  uint8_t *start;
  size_t length;
};
TEE_Result get_range(const struct call *call, unsigned int memref, unsigned int n, struct range *range);

/* Sets the output's size to `size`; TEE_ERROR_SHORT_BUFFER if it does not have so much. */
TEE_Result set_size(const struct call *call, unsigned int memref, size_t size);

/* Protected memory is read and written by devices that see no cache; where TAs may, they write it back. */
void write_back(void *start, size_t length);

TEE_Result values(struct call *call);

TEE_Result touch(struct call *call);
TEE_Result transform(struct call *call);
TEE_Result copy(struct call *call);
TEE_Result checksum(struct call *call);
TEE_Result fill(struct call *call);
TEE_Result write_exactly(struct call *call);

TEE_Result wait_unmasked(struct call *call);
TEE_Result wait_masked(struct call *call);
TEE_Result busy(struct call *call);
TEE_Result panic(struct call *call);
TEE_Result answer_result(struct call *call);

TEE_Result params(struct call *call);
TEE_Result params_read(struct call *call);
TEE_Result peek(struct call *call);
TEE_Result poke(struct call *call);
TEE_Result identity(struct call *call);
TEE_Result open_state(struct call *call);

TEE_Result storage_write(struct call *call);
TEE_Result storage_read(struct call *call);
TEE_Result storage_delete(struct call *call);

TEE_Result forward(struct call *call);

TEE_Result fault(struct call *call);
TEE_Result overflow(struct call *call);
TEE_Result log_bytes(struct call *call);

TEE_Result half(struct call *call);
TEE_Result scribble(struct call *call);
TEE_Result relay(struct call *call);
/* Passes a call on, whatever it is, and damages its answer. */
TEE_Result relay_call(struct call *call, uint32_t command);

#endif
