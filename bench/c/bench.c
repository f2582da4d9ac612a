/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The C side of the benchmark: a server, so that its rounds can be interleaved with those of others.
 *
 * A request is one line on stdin, its answer one line of JSON on stdout; the end of stdin ends the program.
 *
 * - list: {"cases":[names],"clients":[names]}
 * - CASE CLIENT THREADS TIMES CALLS: {"case":..., "client":..., "ns":[...]}: TIMES times the time of CALLS
 * calls, divided by CALLS. Where THREADS (1 to 8) is not 1: TIMES times the time of CALLS calls on each of so
 * many threads, each with a session of its own, divided by all of them.
 * - anything that fails: {"error":"..."}
 *
 * Clients: `ioctl` (the bare ioctls), `libteec`, and `handover`: the bare ioctl, handed by the main thread to
 * another one and awaited on an eventfd through epoll, which is the least that an asynchronous client does.
 *
 * Cases (sizes in bytes): empty, value, values4; tmp-in-N, tmp-out-N, tmp-inout-N, tmp-into-N,
 * tmp-inplace-N, shm-whole-N, shm-part-N, shm-alloc-N with N of 16, 4096, 65536, 1048576; dmabuf-register,
 * session. The bare ioctl's tmp cases copy into and out of memory that stays registered.
 *
 * Whatever a case needs is made before the clock starts, and one call is made unmeasured.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parallel.h"

#define CALLS_MAX 1000000

static const struct client *const clients[] = {&client_ioctl, &client_libteec, &client_handover};
#define CLIENT_COUNT (sizeof(clients) / sizeof(clients[0]))

static int measure(const struct client *client, const struct bench_case *bench_case, unsigned int times,
                   unsigned int calls, uint64_t *ns) {
  void *state = NULL;
  int result = client->setup(bench_case, 0, &state);

  if (result) return result;
  result = client->call(state);
  for (unsigned int i = 0; i < times && !result; i++) {
    const uint64_t start = now_ns();

    for (unsigned int j = 0; j < calls && !result; j++) result = client->call(state);
    ns[i] = (now_ns() - start) / calls;
  }
  client->teardown(state);
  return result;
}

static void answer_failure(void) {
  printf("{\"error\":\"");
  for (const char *c = last_failure(); *c; c++) {
    if (*c == '"' || *c == '\\' || *c < ' ')
      putchar(' ');
    else
      putchar(*c);
  }
  printf("\"}\n");
}

static void answer_list(void) {
  printf("{\"cases\":[");
  for (const struct bench_case *bench_case = cases; bench_case->name[0]; bench_case++)
    printf("%s\"%s\"", bench_case == cases ? "" : ",", bench_case->name);
  printf("],\"clients\":[");
  for (size_t i = 0; i < CLIENT_COUNT; i++) printf("%s\"%s\"", i ? "," : "", clients[i]->name);
  printf("]}\n");
}

static int run(const char *case_name, const char *client_name, unsigned int threads, unsigned int times,
               unsigned int calls) {
  const struct bench_case *bench_case = find_case(case_name);
  const struct client *client = NULL;

  for (size_t i = 0; i < CLIENT_COUNT; i++) {
    if (!strcmp(clients[i]->name, client_name)) client = clients[i];
  }
  if (!bench_case) return fail("no case '%s'", case_name);
  if (!client) return fail("no client '%s'", client_name);
  if (threads < 1 || threads > THREADS_MAX) return fail("threads must be 1 to %d", THREADS_MAX);
  if (times < 1 || calls < 1 || times > CALLS_MAX / calls)
    return fail("times and calls must be 1 and up, together at most %d", CALLS_MAX);

  uint64_t *ns = calloc(times, sizeof(*ns));
  int result = 0;

  if (!ns) return fail("out of memory");
  if (threads == 1) {
    result = measure(client, bench_case, times, calls, ns);
  } else {
    for (unsigned int i = 0; i < times && !result; i++)
      result = measure_parallel(client, bench_case, threads, calls, ns + i);
  }
  if (!result) {
    printf("{\"case\":\"%s\",\"client\":\"%s\",\"ns\":[", case_name, client_name);
    for (unsigned int i = 0; i < times; i++) printf("%s%" PRIu64, i ? "," : "", ns[i]);
    printf("]}\n");
  }
  free(ns);
  return result;
}

int main(void) {
  char line[256];

  make_cases();
  while (fgets(line, sizeof(line), stdin)) {
    char case_name[32] = "";
    char client_name[32] = "";
    unsigned int threads = 0;
    unsigned int times = 0;
    unsigned int calls = 0;

    if (!strcmp(line, "list\n"))
      answer_list();
    else if (sscanf(line, "%31s %31s %u %u %u", case_name, client_name, &threads, &times, &calls) != 5) {
      fail("a request is: CASE CLIENT THREADS TIMES CALLS");
      answer_failure();
    } else if (run(case_name, client_name, threads, times, calls))
      answer_failure();
    fflush(stdout);
  }
  return 0;
}
