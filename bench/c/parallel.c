/* SPDX-License-Identifier: BSD-2-Clause */
#include "parallel.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct worker {
  pthread_t thread;
  const struct client *client;
  void *state;
  unsigned int rounds;
  int result;
  pthread_barrier_t *start;
};

static void *work(void *argument) {
  struct worker *worker = argument;

  worker->result = worker->client->call(worker->state);
  pthread_barrier_wait(worker->start); /* all are warm */
  pthread_barrier_wait(worker->start); /* the clock runs */
  for (unsigned int i = 0; i < worker->rounds && !worker->result; i++)
    worker->result = worker->client->call(worker->state);
  return NULL;
}

int measure_parallel(const struct client *client, const struct bench_case *bench_case, unsigned int threads,
                     unsigned int rounds, uint64_t *ns_per_call) {
  struct worker workers[THREADS_MAX] = {};
  pthread_barrier_t start;
  int result = 0;
  unsigned int ready = 0;
  unsigned int started = 0;

  for (; ready < threads && !result; ready++) {
    struct worker *worker = workers + ready;

    worker->client = client;
    worker->rounds = rounds;
    worker->start = &start;
    result = client->setup(bench_case, ready, &worker->state);
  }
  if (result) {
    ready--; /* the one that failed left nothing */
  } else {
    pthread_barrier_init(&start, NULL, threads + 1);
    for (; started < threads; started++) {
      const int error = pthread_create(&workers[started].thread, NULL, work, workers + started);

      if (error) {
        /* The others wait at the barrier for good. */
        fprintf(stderr, "pthread_create: %s\n", strerror(error));
        exit(1);
      }
    }
    pthread_barrier_wait(&start);

    const uint64_t begin = now_ns();

    pthread_barrier_wait(&start);
    for (unsigned int i = 0; i < threads; i++) {
      pthread_join(workers[i].thread, NULL);
      if (workers[i].result) result = workers[i].result;
    }
    *ns_per_call = (now_ns() - begin) / ((uint64_t)threads * rounds);
    pthread_barrier_destroy(&start);
  }
  for (unsigned int i = 0; i < ready; i++) client->teardown(workers[i].state);
  return result;
}
