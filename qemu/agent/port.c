/* The virtio-serial port to the host. Without udev it has no name in /dev; the kernel knows it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum { WAIT_MS = 20000 };

static bool read_name(const char *dir, char *name, size_t size) {
  char path[300];
  int fd;
  ssize_t n;

  snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", dir);
  fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  n = read(fd, name, size - 1);
  close(fd);
  if (n <= 0) return false;
  name[n] = 0;
  name[strcspn(name, "\n")] = 0;
  return true;
}

static int find_port(void) {
  DIR *dir = opendir("/sys/class/virtio-ports");
  struct dirent *entry;
  int fd = -1;

  if (!dir) return -1;
  while (fd < 0 && (entry = readdir(dir))) {
    char name[64], path[300];

    if (entry->d_name[0] == '.' || !read_name(entry->d_name, name, sizeof(name)) ||
        strcmp(name, "node-optee.agent") != 0)
      continue;
    snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  }
  closedir(dir);
  return fd;
}

/* It appears, and learns that the host is there, some time after the driver has loaded. */
int wait_for_port(void) {
  const struct timespec step = {.tv_nsec = 2000000};
  int fd = -1;

  for (int waited = 0; waited < WAIT_MS; waited += 2) {
    struct pollfd f = {.events = POLLOUT};

    if (fd < 0) fd = find_port();
    f.fd = fd;
    if (fd >= 0 && poll(&f, 1, 0) > 0 && !(f.revents & POLLHUP)) return fd;
    nanosleep(&step, NULL);
  }
  return -1;
}
