/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For LD_PRELOAD: what a process does outside of its calls of a TA.
 *
 * From the end of the OUTSIDE_SKIP-th call of the command OUTSIDE_COMMAND until OUTSIDE_COUNT calls of it
 * later it sums up the processor time of all threads of the process, of Linux for them included, and that of
 * TEE_IOC_INVOKE. Then it prints
 * {"calls":all calls, "inside":ns, "outside":ns} on stdout, each divided by OUTSIDE_COUNT.
 */
#define _GNU_SOURCE
#include <linux/tee.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint32_t command;
static unsigned long skip;
static unsigned long count;
static int64_t look; /* what a look at the clock takes */

static atomic_ulong done; /* calls of the command */
static atomic_ulong calls;
static atomic_llong inside;
static int64_t began;

static int64_t now(clockid_t clock) {
  struct timespec time;

  clock_gettime(clock, &time);
  return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static unsigned long number(const char *name) {
  const char *text = getenv(name);

  return text ? strtoul(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void prepare(void) {
  enum { LOOKS = 1000 };

  command = (uint32_t)number("OUTSIDE_COMMAND");
  skip = number("OUTSIDE_SKIP");
  count = number("OUTSIDE_COUNT");
  const int64_t start = now(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < LOOKS; i++) now(CLOCK_THREAD_CPUTIME_ID);
  look = (now(CLOCK_THREAD_CPUTIME_ID) - start) / LOOKS;
}

static void report(void) {
  const int64_t total = now(CLOCK_PROCESS_CPUTIME_ID) - began;
  const int64_t in_calls = atomic_load(&inside);
  const double each = (double)count;
  const double looks = (double)atomic_load(&calls) * (double)look;

  printf("{\"calls\":%.2f,\"inside\":%.0f,\"outside\":%.0f}\n", (double)atomic_load(&calls) / each,
         (double)in_calls / each, ((double)(total - in_calls) - looks) / each);
  fflush(stdout);
}

int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;

  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (request != TEE_IOC_INVOKE) return (int)syscall(SYS_ioctl, fd, request, argument);

  const struct tee_ioctl_buf_data *data = argument;
  const struct tee_ioctl_invoke_arg *call = (const void *)(uintptr_t)data->buf_ptr;
  const int64_t start = now(CLOCK_THREAD_CPUTIME_ID);
  const int result = (int)syscall(SYS_ioctl, fd, request, argument);

  atomic_fetch_add(&inside, now(CLOCK_THREAD_CPUTIME_ID) - start);
  atomic_fetch_add(&calls, 1);
  if (call->func == command && count > 0) {
    const unsigned long ended = atomic_fetch_add(&done, 1) + 1;

    if (ended == skip) {
      atomic_store(&inside, 0);
      atomic_store(&calls, 0);
      began = now(CLOCK_PROCESS_CPUTIME_ID);
    }
    if (ended == skip + count) report();
  }
  return result;
}
