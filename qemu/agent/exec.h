#ifndef NODE_OPTEE_EXEC_H
#define NODE_OPTEE_EXEC_H

#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "protocol.h"

/* What to start; a FRAME_EXEC in the form that the system calls want. */
struct exec {
  uint32_t flags;
  struct winsize size;
  uid_t uid;
  gid_t gid;
  size_t group_count;
  gid_t *groups;
  const char *cwd;
  char **argv;
  char **env;
};

/* A command that was started. Our ends of its pipes, or of its terminal, do not block; -1 where there is
 * none. */
struct child {
  pid_t pid;
  int in, out, err;
  int tty;    /* the command's own end of its terminal */
  int status; /* ends without a word when exec succeeds, else carries a struct failure */
};

/* Returns false with errno set, and everything closed, if it does not even come to exec. */
bool start_child(const struct exec *e, struct child *c);

/* Takes as many descriptors as there may be, and returns how many. Commands have the limit of before. */
rlim_t raise_file_limit(void);

/* Closes it unless it is -1, and makes it -1. */
void close_fd(int *fd);

#endif
