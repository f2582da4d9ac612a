/*
 * The guest's one program of its own.
 *
 *     agent              as PID 1: makes a machine of the kernel, then serves the host's commands
 *     agent setup WORD…  run by the host, before any command of its user
 *     agent processors   runs on each processor for a moment: from one that a panic of OP-TEE keeps it does
 *                        not come back
 *     agent --fd N       serves on the socket N: for tests on the host
 *
 * One static program instead of shell scripts, because in an emulated machine each program started costs
 * some 20 ms, and a guest is started for every test.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

static int visit_processors(void) {
  cpu_set_t all, one;

  if (sched_getaffinity(0, sizeof(all), &all) < 0) return 1;
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (!CPU_ISSET(i, &all)) continue;
    CPU_ZERO(&one);
    CPU_SET(i, &one);
    if (sched_setaffinity(0, sizeof(one), &one) < 0) return 1;
  }
  return 0;
}

int main(int argc, char **argv) {
  if (getpid() == 1) {
    init_machine();
    serve(-1);
  }
  if (argc > 2 && strcmp(argv[1], "setup") == 0) return set_up(argc - 2, argv + 2);
  if (argc == 2 && strcmp(argv[1], "processors") == 0) return visit_processors();
  if (argc == 3 && strcmp(argv[1], "--fd") == 0) {
    int fd = atoi(argv[2]);

    if (fd < 3 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
      perror("node-optee agent: --fd");
      return 2;
    }
    serve(fd);
  }
  fprintf(stderr, "usage: agent setup WORD... | agent processors | agent --fd N\n");
  return 2;
}
