/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test TA of node-optee: its UUID and commands.
 *
 * Every parameter that a command does not name must be NONE, "optional" ones may be; anything else answers
 * TEE_ERROR_BAD_PARAMETERS. "Readable" memrefs are INPUT or INOUT, "writable" ones OUTPUT or INOUT, "any" all
 * three. Each may lie in protected memory. A RANGE is an optional VALUE_INPUT {a: offset, b: length} within
 * the memref that it belongs to, in bytes; without it the whole memref is meant.
 *
 * A real TA must never copy from protected to other memory. This one does, so that tests see what was
 * written.
 *
 * Opening a session:
 *   0  optional VALUE_INPUT {a: the result to answer, b: milliseconds to wait before}
 *   1  optional VALUE_INOUT {a, b} -> {a + 1, b + 2}
 *   2  optional memref INPUT: its first 64 bytes are kept, see OPEN_STATE
 *   3  optional memref OUTPUT: gets the kept bytes in reverse order; SHORT_BUFFER with the size where
 *      it is too small
 */
#ifndef NODE_OPTEE_TEST_TA_H
#define NODE_OPTEE_TEST_TA_H

/* 346e01a1-3d71-4feb-894b-ae252d064bde */
#define NODE_OPTEE_TEST_TA_UUID                      \
  {                                                  \
    0x346e01a1, 0x3d71, 0x4feb, {                    \
      0x89, 0x4b, 0xae, 0x25, 0x2d, 0x06, 0x4b, 0xde \
    }                                                \
  }

/* Nothing. No parameters. */
#define TEST_TA_NOTHING 0

/*
 * Values, 0 to 4 of them, of any direction, NONE among them allowed.
 * INOUT {a, b} -> {a + 1, b + 2}; OUTPUT gets {sum of all a, sum of all b} that went in. All modulo 2^32.
 */
#define TEST_TA_VALUES 1

/*
 * Up to 4 memrefs: adds 1 to the first and to the last byte of writable ones, reads those of INPUT ones.
 * OUTPUT ones get 1 in both places. Sizes stay. The least work with memory that is really mapped.
 */
#define TEST_TA_TOUCH 2

/* Changes bytes in place: each is XORed with 0xa5. 0: memref INOUT, 1: RANGE. */
#define TEST_TA_TRANSFORM 3

/*
 * Copies. 0: readable memref, 1: writable memref, 2: RANGE of the source, 3: optional VALUE_INPUT {a: offset
 * in the target}. The target's size becomes offset + length; SHORT_BUFFER with that size where it is too
 * small.
 */
#define TEST_TA_COPY 4

/* 0: readable memref, 1: VALUE_OUTPUT {a: sum of the bytes, b: 32-bit FNV-1a of them}, 2: RANGE. */
#define TEST_TA_CHECKSUM 5

/* 0: writable memref, 1: VALUE_INPUT {a: byte}, 2: RANGE. Its size stays. */
#define TEST_TA_FILL 6

/*
 * Writes exactly so many bytes: byte i is i modulo 251. 0: writable memref, 1: VALUE_INPUT {a: size}.
 * The memref's size becomes that size; SHORT_BUFFER with it, and nothing written, where it is too small.
 */
#define TEST_TA_WRITE 7

/*
 * Answers a result of the caller's choice, with sizes that need not make sense.
 * 0: VALUE_INPUT {a: result, b: size}, 1: optional writable memref whose size becomes b,
 * 2: optional VALUE_OUTPUT or VALUE_INOUT, becomes {~result, size}.
 */
#define TEST_TA_RESULT 8

/*
 * Waits in slices of 10 ms with cancellation unmasked; TEE_ERROR_CANCEL at the first one that finds the flag.
 * 0: VALUE_INPUT {a: milliseconds}, 1: optional VALUE_OUTPUT {a: milliseconds waited, b: 1 if cancelled}.
 */
#define TEST_TA_WAIT 9

/* Waits with cancellation masked, in one TEE_Wait, and answers with the result that is b. Otherwise as WAIT.
 */
#define TEST_TA_WAIT_MASKED 10

/* Computes without a pause. 0: VALUE_INPUT {a: milliseconds}, 1: optional VALUE_OUTPUT {a: rounds, b: state}.
 */
#define TEST_TA_BUSY 11

/* Panics. 0: optional VALUE_INPUT {a: panic code}. */
#define TEST_TA_PANIC 12

/* Counts this command's calls in this session. 0: VALUE_INOUT {a: any} -> {a: calls so far, b: last call's
 * a}. */
#define TEST_TA_COUNT 13

/* Remembers what its parameters look like, whatever they are. Opening a session does so too. */
#define TEST_TA_PARAMS 14

/* What PARAMS (or the open) remembered. 0: writable memref, gets four struct test_ta_param. */
#define TEST_TA_PARAMS_READ 15

/*
 * Reads the pages that a memref lies in, beyond its ends. 0: any memref, 1: writable memref, gets the bytes,
 * 2: VALUE_INPUT {a: offset from the start of the first page, b: length}. ACCESS_DENIED outside the pages.
 */
#define TEST_TA_PEEK 16

/* Writes there, also where the memref is INPUT. 0: any memref, 1: readable memref (the bytes), 2: as of PEEK.
 */
#define TEST_TA_POKE 17

/* Who opened the session. 0: VALUE_OUTPUT {a: login}, 1: writable memref, 16 bytes: the UUID, big-endian. */
#define TEST_TA_IDENTITY 18

/* What was given at open. 0: VALUE_OUTPUT (its first parameter), 1: writable memref, gets the kept bytes. */
#define TEST_TA_OPEN_STATE 19

/* Secure storage; the name is 1 to 64 bytes. 0: readable memref (name), 1: readable memref (data).
 * Overwrites. */
#define TEST_TA_STORAGE_WRITE 20

/* 0: readable memref (name), 1: writable memref (data). SHORT_BUFFER with the size where it is too small. */
#define TEST_TA_STORAGE_READ 21

/* 0: readable memref (name). */
#define TEST_TA_STORAGE_DELETE 22

/*
 * Has another instance of this TA run a command. 0: VALUE_INPUT {a: command}, 1 to 3: that command's first
 * three parameters, passed on as they are and brought back.
 */
#define TEST_TA_FORWARD 23

/* Reads a byte where nothing is mapped. 0: VALUE_INPUT {a: low, b: high half of the address}. */
#define TEST_TA_FAULT 24

/* Calls itself until its stack is full. No parameters. */
#define TEST_TA_OVERFLOW 25

/* Logs bytes as they are, through the system call below all of printf. 0: memref INPUT. */
#define TEST_TA_LOG 26

/* Writes 0xee into the first half of a memref and panics. 0: writable memref, 1: VALUE_INPUT {a: panic code}.
 */
#define TEST_TA_HALF 27

/*
 * Never answers, with cancellation masked: goes on changing all of a memref until its client, from the other
 * side, makes a byte of another one non-zero. 0: writable memref, 1: memref INOUT, its first byte ends it.
 */
#define TEST_TA_SCRIBBLE 28

/*
 * From now on every command of this session is passed on to another TA, whatever it is, and some answers are
 * damaged: bytes, sizes and results of all kinds, answers of calls that were not passed on, and panics. 0:
 * VALUE_INPUT {a: seed, b: one in so many answers is damaged, 0 for none}, 1: readable memref: the other's
 * TEE_UUID.
 */
#define TEST_TA_RELAY 29

/* Flags of struct test_ta_param. */
#define TEST_TA_PARAM_NULL 1u      /* a memref whose address is NULL */
#define TEST_TA_PARAM_SECURE 2u    /* all of it is memory of the secure world */
#define TEST_TA_PARAM_NONSECURE 4u /* all of it is memory of the normal world */

/* A parameter as the TA got it: four 32-bit numbers, little-endian. */
struct test_ta_param {
  unsigned int type;  /* TEE_PARAM_TYPE_* */
  unsigned int flags; /* of a memref, else 0 */
  unsigned int a;     /* a memref's size, a value's a where it goes in */
  unsigned int b;     /* a memref's offset in its page, a value's b where it goes in */
};

#endif
