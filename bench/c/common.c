/* SPDX-License-Identifier: BSD-2-Clause */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define HEAP "/dev/dma_heap/protected,secure-video"
/* Of the machine `dmabuf`. */
#define CMA_HEAP "/dev/dma_heap/sdp@7e000000"

/* The latest failure. Several threads may fail at once: any of their words will do. */
static char latest[256];

int fail(const char *format, ...) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  va_list args;

  va_start(args, format);
  pthread_mutex_lock(&lock);
  vsnprintf(latest, sizeof(latest), format, args);
  pthread_mutex_unlock(&lock);
  va_end(args);
  return -1;
}

const char *last_failure(void) {
  return latest;
}

uint64_t now_ns(void) {
  struct timespec time;

  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int alloc_protected(size_t size, int *fd) {
  struct dma_heap_allocation_data data = {.len = size, .fd_flags = O_RDWR | O_CLOEXEC};
  int heap = open(HEAP, O_RDONLY | O_CLOEXEC);

  if (heap < 0) heap = open(CMA_HEAP, O_RDONLY | O_CLOEXEC);
  if (heap < 0) return fail("open %s: %s", HEAP, strerror(errno));
  if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data)) {
    fail("DMA_HEAP_IOCTL_ALLOC: %s", strerror(errno));
    close(heap);
    return -1;
  }
  close(heap);
  *fd = data.fd;
  return 0;
}
