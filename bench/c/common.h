/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the benchmark share: the cases, and what a client is. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind {
  KIND_INVOKE,    /* `values` values, all INOUT; none: the empty command */
  KIND_TMP,       /* a temporary buffer */
  KIND_SHM_WHOLE, /* all of a shared memory, INOUT */
  KIND_SHM_PART,  /* a part of a larger one, INOUT */
  KIND_SHM_ALLOC, /* allocate and close a shared memory */
  KIND_DMABUF,    /* register and close a protected dma-buf */
  KIND_SESSION,   /* open and close a session */
};

#define THREADS_MAX 8
/* Of KIND_SHM_PART: what lies before and behind the part. */
#define PART_MARGIN 4096

struct bench_case {
  char name[24];
  enum kind kind;
  unsigned int values;
  bool in;
  bool out;
  size_t size;
};

/* cases.c */
extern struct bench_case cases[]; /* ends with one that has no name */
void make_cases(void);
const struct bench_case *find_case(const char *name);

/*
 * A way to reach the TA. setup() and call() return 0, or -1 after fail(). setup() makes all that a case
 * needs ready, with the session of the calls' thread (below THREADS_MAX), which is opened once and stays.
 * call() is what is measured.
 */
struct client {
  const char *name;
  int (*setup)(const struct bench_case *bench_case, unsigned int thread, void **state);
  int (*call)(void *state);
  void (*teardown)(void *state);
};

extern const struct client client_ioctl;
extern const struct client client_libteec;
extern const struct client client_handover;

/* common.c */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The latest words of fail(). */
const char *last_failure(void);
uint64_t now_ns(void);
/* A dma-buf's descriptor of `size` bytes, from the machine's heap of protected memory. */
int alloc_protected(size_t size, int *fd);

#endif
