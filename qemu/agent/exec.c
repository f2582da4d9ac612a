/* Starts a command: a session, a user, a working folder and three pipes or a terminal of its own. */
#define _GNU_SOURCE
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static struct rlimit files_before;

rlim_t raise_file_limit(void) {
  struct rlimit files;

  if (getrlimit(RLIMIT_NOFILE, &files_before) < 0) return 0;
  files = files_before;
  files.rlim_cur = files.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &files) < 0 ? files_before.rlim_cur : files.rlim_cur;
}

static _Noreturn void child_fail(int fd, enum stage stage) {
  struct failure f = {.error = (uint32_t)errno, .stage = stage};

  if (write(fd, &f, sizeof(f)) < 0) _exit(126);
  _exit(127);
}

static _Noreturn void run_child(const struct exec *e, const int fds[3], int status_fd) {
  sigset_t none;

  sigemptyset(&none);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setrlimit(RLIMIT_NOFILE, &files_before);
  setsid();
  if ((e->flags & EXEC_TTY) && ioctl(fds[0], TIOCSCTTY, 0) < 0) child_fail(status_fd, STAGE_PREPARE);
  for (int i = 0; i < 3; i++)
    if (dup2(fds[i], i) < 0) child_fail(status_fd, STAGE_PREPARE);
  if (geteuid() == 0 &&
      (setgroups(e->group_count, e->groups) < 0 || setgid(e->gid) < 0 || setuid(e->uid) < 0))
    child_fail(status_fd, STAGE_USER);
  if (chdir(e->cwd) < 0) child_fail(status_fd, STAGE_CWD);
  environ = e->env; /* execvp looks for PATH in there */
  execvp(e->argv[0], e->argv);
  child_fail(status_fd, STAGE_EXEC);
}

/* A pipe of which our end does not block, and the other belongs to the command's user, who may open
 * /dev/stdout and the like. `ours` is 0 or 1. */
static bool open_pipe(int ends[2], int ours, const struct exec *e) {
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  if (fcntl(ends[ours], F_SETFL, O_NONBLOCK | (ours ? O_WRONLY : O_RDONLY)) < 0) return false;
  fcntl(ends[ours], F_SETPIPE_SZ, WINDOW);
  if (geteuid() == 0 && fchown(ends[!ours], e->uid, e->gid) < 0) return false;
  return true;
}

static bool open_tty(int *master, int *slave, const struct exec *e) {
  int unlock = 0;

  *master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (*master < 0 || ioctl(*master, TIOCSPTLCK, &unlock) < 0) return false;
  *slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (*slave < 0 || ioctl(*master, TIOCSWINSZ, &e->size) < 0) return false;
  return geteuid() != 0 || fchown(*slave, e->uid, (gid_t)-1) == 0;
}

/* With a terminal both directions are the same one; the copy lets either be closed alone. */
static bool connect_tty(const struct exec *e, struct child *c, int fds[3]) {
  if (!open_tty(&c->in, &fds[0], e)) return false;
  c->tty = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
  fds[1] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
  fds[2] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
  c->out = fcntl(c->in, F_DUPFD_CLOEXEC, 3);
  return fds[1] >= 0 && fds[2] >= 0 && c->out >= 0 && c->tty >= 0;
}

static bool connect_pipes(const struct exec *e, struct child *c, int fds[3]) {
  int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
  bool ok;

  if (e->flags & EXEC_STDIN) {
    ok = open_pipe(in, 1, e);
  } else {
    in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ok = in[0] >= 0;
  }
  ok = ok && open_pipe(out, 0, e);
  if (e->flags & EXEC_MERGED) {
    err[1] = ok ? fcntl(out[1], F_DUPFD_CLOEXEC, 3) : -1;
    ok = err[1] >= 0;
  } else {
    ok = ok && open_pipe(err, 0, e);
  }
  fds[0] = in[0];
  fds[1] = out[1];
  fds[2] = err[1];
  c->in = in[1];
  c->out = out[0];
  c->err = err[0];
  return ok;
}

bool start_child(const struct exec *e, struct child *c) {
  int fds[3] = {-1, -1, -1}, status[2] = {-1, -1};
  int error;

  *c = (struct child){.in = -1, .out = -1, .err = -1, .tty = -1, .status = -1};
  if (((e->flags & EXEC_TTY) ? connect_tty(e, c, fds) : connect_pipes(e, c, fds)) &&
      pipe2(status, O_CLOEXEC | O_NONBLOCK) == 0) {
    c->pid = fork();
    if (c->pid == 0) run_child(e, fds, status[1]);
  } else {
    c->pid = -1;
  }
  error = errno;
  for (int i = 0; i < 3; i++) close_fd(&fds[i]);
  close_fd(&status[1]);
  if (c->pid > 0) {
    c->status = status[0];
    return true;
  }
  close_fd(&status[0]);
  close_fd(&c->in);
  close_fd(&c->out);
  close_fd(&c->err);
  close_fd(&c->tty);
  errno = error;
  return false;
}
