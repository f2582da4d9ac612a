/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bare ioctl on another thread: handed over under a mutex with a condition variable, answered through an
 * eventfd that the caller's epoll waits on.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common.h"

struct state {
  void *inner; /* of client_ioctl */
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  bool has_call;
  bool end;
  int result;
  int event;
  int epoll;
};

static void *work(void *argument) {
  struct state *state = argument;
  const uint64_t one = 1;

  pthread_mutex_lock(&state->lock);
  while (true) {
    while (!state->has_call && !state->end) pthread_cond_wait(&state->wake, &state->lock);
    if (state->end) break;
    state->has_call = false;
    pthread_mutex_unlock(&state->lock);
    state->result = client_ioctl.call(state->inner);
    if (write(state->event, &one, sizeof(one)) != sizeof(one)) abort();
    pthread_mutex_lock(&state->lock);
  }
  pthread_mutex_unlock(&state->lock);
  return NULL;
}

static int call(void *argument) {
  struct state *state = argument;
  struct epoll_event event;
  uint64_t count;
  int ready;

  pthread_mutex_lock(&state->lock);
  state->has_call = true;
  pthread_cond_signal(&state->wake);
  pthread_mutex_unlock(&state->lock);
  do {
    ready = epoll_wait(state->epoll, &event, 1, -1);
  } while (ready < 0 && errno == EINTR);
  if (ready != 1 || read(state->event, &count, sizeof(count)) != sizeof(count))
    return fail("awaiting the eventfd: %s", strerror(errno));
  return state->result;
}

static void close_descriptors(struct state *state) {
  if (state->event >= 0) close(state->event);
  if (state->epoll >= 0) close(state->epoll);
}

static int setup(const struct bench_case *bench_case, unsigned int thread, void **result) {
  struct state *state = calloc(1, sizeof(*state));
  struct epoll_event event = {.events = EPOLLIN};

  if (!state) return fail("out of memory");
  if (client_ioctl.setup(bench_case, thread, &state->inner)) {
    free(state);
    return -1;
  }
  pthread_mutex_init(&state->lock, NULL);
  pthread_cond_init(&state->wake, NULL);
  state->event = eventfd(0, EFD_CLOEXEC);
  state->epoll = epoll_create1(EPOLL_CLOEXEC);

  int error = 0;

  if (state->event < 0 || state->epoll < 0 || epoll_ctl(state->epoll, EPOLL_CTL_ADD, state->event, &event))
    error = errno;
  if (!error) error = pthread_create(&state->thread, NULL, work, state);
  if (error) {
    fail("hand-over: %s", strerror(error));
    close_descriptors(state);
    client_ioctl.teardown(state->inner);
    free(state);
    return -1;
  }
  *result = state;
  return 0;
}

static void teardown(void *argument) {
  struct state *state = argument;

  pthread_mutex_lock(&state->lock);
  state->end = true;
  pthread_cond_signal(&state->wake);
  pthread_mutex_unlock(&state->lock);
  pthread_join(state->thread, NULL);
  close_descriptors(state);
  client_ioctl.teardown(state->inner);
  free(state);
}

const struct client client_handover = {"handover", setup, call, teardown};
