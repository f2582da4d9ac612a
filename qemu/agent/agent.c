/*
 * The guest's agent. It starts commands for the host and carries their input, output and exit status over
 * one virtio-serial port. It is the guest's PID 1: it must never end by itself, the kernel would panic.
 *
 * protocol.h says what they speak.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exec.h"
#include "protocol.h"

enum {
  MAX_COMMANDS = 1024,
  FDS_PER_COMMAND = 8,
  /* Above this no output is read from commands until the host has taken some. */
  TX_HIGH = 512 * 1024,
  /* Above this nothing is read from the host either. */
  TX_FULL = 4 * 1024 * 1024,
  /* A terminal cannot say how much it holds; what it holds is less than this. */
  TTY_DRAIN = 256 * 1024,
};

struct output {
  int fd; /* -1: closed, or there is none */
  uint8_t stream;
  uint32_t credit;
  /* Once the command has ended: how much of what it wrote is still to be read. */
  size_t left;
};

struct input {
  int fd;
  uint8_t *data; /* WINDOW bytes */
  size_t head, tail;
  bool eof;
  uint32_t owed; /* credit to give back */
};

struct command {
  struct command *next;
  uint32_t id;
  pid_t pid;     /* 0 once reaped */
  int status_fd; /* ends without a word when exec succeeds, else carries a struct failure */
  /* The command's own end of its terminal. While we have it open, too, the terminal outlives a command that
   * closes it and opens /dev/tty again. */
  int tty;
  int share;    /* a folder of the share, opened before the command could write there */
  pid_t syncer; /* writes the share's file system back once the command has ended; 0 if there is none */
  bool ended;
  bool done; /* last frame sent. Freed when no child that it left behind has its outputs open any more */
  int wait_status;
  uint32_t lost; /* errno of what could not be written back */
  struct input in;
  struct output out[2];
};

struct buffer {
  uint8_t *data;
  size_t head, tail, capacity;
};

static bool is_init;
static int port = -1;
static struct buffer rx, tx;
static struct command *commands;
static size_t command_count;
static size_t max_commands = MAX_COMMANDS;

static void flush_tx(void);

/* Ends the machine; on the host, ends this process and its commands. */
static _Noreturn void end(void) {
  if (is_init) {
    kill(-1, SIGKILL);
    sync();
    reboot(RB_POWER_OFF);
    for (;;) pause();
  }
  for (struct command *c = commands; c; c = c->next)
    if (c->pid > 0) kill(-c->pid, SIGKILL);
  exit(0);
}

static size_t pending(const struct buffer *b) {
  return b->tail - b->head;
}

static uint16_t get16(const uint8_t *p) {
  return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p) {
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t value) {
  p[0] = (uint8_t)value;
  p[1] = (uint8_t)(value >> 8);
  p[2] = (uint8_t)(value >> 16);
  p[3] = (uint8_t)(value >> 24);
}

static void put_header(uint8_t *p, enum frame_type type, uint8_t stream, uint32_t id, uint32_t size) {
  put32(p, size);
  p[4] = (uint8_t)type;
  p[5] = stream;
  p[6] = p[7] = 0;
  put32(p + 8, id);
}

static _Noreturn void fail(const char *format, ...) {
  char text[256];
  va_list args;

  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  fprintf(stderr, "node-optee agent: %s\n", text);
  if (port >= 0 && text[0]) {
    uint32_t size = (uint32_t)strlen(text);
    uint8_t frame[HEADER_SIZE + sizeof(text)] = {0};

    put_header(frame, FRAME_ERROR, 0, 0, size);
    memcpy(frame + HEADER_SIZE, text, size);
    flush_tx();
    /* The host understands it only on a frame's boundary; if the port is full it just sees the end. */
    if (pending(&tx) == 0 && write(port, frame, HEADER_SIZE + size) < 0) perror("node-optee agent: write");
  }
  end();
}

/* Room for `size` more bytes at the buffer's tail. */
static uint8_t *reserve(struct buffer *b, size_t size) {
  if (b->head == b->tail) b->head = b->tail = 0;
  if (b->capacity - b->tail < size && b->head) {
    memmove(b->data, b->data + b->head, b->tail - b->head);
    b->tail -= b->head;
    b->head = 0;
  }
  if (b->capacity - b->tail < size) {
    size_t capacity = (b->tail + size) * 2;
    uint8_t *data = realloc(b->data, capacity);

    if (!data) fail("out of memory");
    b->data = data;
    b->capacity = capacity;
  }
  return b->data + b->tail;
}

/* A frame with up to two numbers. */
static void send_frame(enum frame_type type, uint8_t stream, uint32_t id, unsigned count, uint32_t a,
                       uint32_t b) {
  uint8_t *p = reserve(&tx, HEADER_SIZE + 8);

  put_header(p, type, stream, id, count * 4);
  put32(p + HEADER_SIZE, a);
  put32(p + HEADER_SIZE + 4, b);
  tx.tail += HEADER_SIZE + count * 4;
}

static void close_input(struct command *c) {
  close_fd(&c->in.fd);
  free(c->in.data);
  c->in.data = NULL;
  c->in.head = c->in.tail = 0;
}

/* After the command's last frame. Its outputs stay open for children that it has left behind. */
static void finish(struct command *c) {
  bool is_tty = c->tty >= 0;

  c->done = true;
  close_fd(&c->status_fd);
  close_fd(&c->share);
  close_fd(&c->tty);
  close_input(c);
  for (int i = 0; i < 2; i++)
    if (!c->ended || is_tty) close_fd(&c->out[i].fd);
}

/* What children that were left behind write goes nowhere, and they live on. */
static void discard(struct output *o) {
  static uint8_t waste[MAX_DATA];
  ssize_t n = read(o->fd, waste, sizeof(waste));

  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) close_fd(&o->fd);
}

static void flush_tx(void) {
  while (pending(&tx)) {
    ssize_t n = write(port, tx.data + tx.head, pending(&tx));

    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) end();
    tx.head += (size_t)n;
  }
}

/* From a command's output to the host, as far as credit and the port allow. */
static void pump_output(struct command *c, struct output *o) {
  while (o->fd >= 0 && o->credit > 0 && pending(&tx) < TX_HIGH) {
    size_t want = o->credit < MAX_DATA ? o->credit : MAX_DATA;
    uint8_t *p;
    ssize_t n;

    if (c->ended && o->left < want) want = o->left;
    if (want == 0) return;
    p = reserve(&tx, HEADER_SIZE + want);
    n = read(o->fd, p + HEADER_SIZE, want);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      o->left = 0;
      return;
    }
    if (n <= 0) {
      close_fd(&o->fd);
      if (!c->ended) send_frame(FRAME_EOF, o->stream, c->id, 0, 0, 0);
      return;
    }
    put_header(p, FRAME_DATA, o->stream, c->id, (uint32_t)n);
    tx.tail += HEADER_SIZE + (size_t)n;
    o->credit -= (uint32_t)n;
    if (c->ended) o->left -= (size_t)n;
    if (!c->ended && (size_t)n < want) return; /* it was all there is */
    flush_tx();
  }
}

/* From the host to a command's input, as far as the command reads. */
static void pump_input(struct command *c) {
  struct input *in = &c->in;

  while (in->fd >= 0 && in->head < in->tail) {
    ssize_t n = write(in->fd, in->data + in->head, in->tail - in->head);

    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      close_input(c);
      send_frame(FRAME_CLOSE, 0, c->id, 0, 0, 0);
      return;
    }
    in->head += (size_t)n;
    in->owed += (uint32_t)n;
  }
  if (in->fd < 0) return;
  if (in->head == in->tail) in->head = in->tail = 0;
  /* After the end of the input nobody needs credit, least of all for the Ctrl-D that is ours. */
  if (in->owed && !in->eof && (in->tail == 0 || in->owed >= WINDOW / 4)) {
    send_frame(FRAME_CREDIT, 0, c->id, 1, in->owed, 0);
    in->owed = 0;
  }
  if (in->eof && in->tail == 0) close_input(c);
}

/* Starts the command; on failure errno says why. */
static bool start(struct command *c, const struct exec *e) {
  struct child child;

  if (!start_child(e, &child)) return false;
  c->pid = child.pid;
  c->tty = child.tty;
  c->status_fd = child.status;
  c->in.fd = child.in;
  c->out[0].fd = child.out;
  c->out[1].fd = child.err;
  return true;
}

static struct command *find(uint32_t id) {
  for (struct command *c = commands; c; c = c->next)
    if (c->id == id && !c->done) return c;
  return NULL;
}

/* Points `list` at `count` strings of the payload and returns what follows them, NULL if they are not there.
 */
static char *take_strings(char *p, const char *payload_end, char **list, size_t count) {
  for (size_t i = 0; i < count; i++) {
    char *nul = p < payload_end ? memchr(p, 0, (size_t)(payload_end - p)) : NULL;

    if (!nul) return NULL;
    list[i] = p;
    p = nul + 1;
  }
  list[count] = NULL;
  return p;
}

static void handle_exec(uint32_t id, uint8_t *payload, size_t size) {
  struct exec e = {0};
  struct command *c;
  uint32_t groups, argc, envc;
  char *folders[3] = {NULL}, *p;

  if (size < EXEC_FIXED) fail("EXEC of %zu bytes", size);
  if (find(id)) fail("EXEC of command %u, which runs", id);
  e.flags = get32(payload);
  e.size.ws_row = get16(payload + 4);
  e.size.ws_col = get16(payload + 6);
  e.uid = get32(payload + 8);
  e.gid = get32(payload + 12);
  groups = get32(payload + 16);
  argc = get32(payload + 20);
  envc = get32(payload + 24);
  /* Each group takes 4 bytes of the payload and each string at least one, which bounds what is allocated. */
  if (argc == 0 || groups > size / 4 || argc > size || envc > size || EXEC_FIXED + groups * 4 > size)
    fail("EXEC with impossible counts");
  e.group_count = groups;
  e.groups = calloc(groups + 1, sizeof(gid_t));
  e.argv = calloc(argc + 1, sizeof(char *));
  e.env = calloc(envc + 1, sizeof(char *));
  c = calloc(1, sizeof(*c));
  if (!e.groups || !e.argv || !e.env || !c || command_count >= max_commands) {
    free(c);
    send_frame(FRAME_EXEC_FAILED, 0, id, 2, EAGAIN, STAGE_PREPARE);
    goto out;
  }
  for (uint32_t i = 0; i < groups; i++) e.groups[i] = get32(payload + EXEC_FIXED + i * 4);
  p = (char *)payload + EXEC_FIXED + groups * 4;
  p = take_strings(p, (char *)payload + size, folders, 2);
  p = p ? take_strings(p, (char *)payload + size, e.argv, argc) : NULL;
  p = p ? take_strings(p, (char *)payload + size, e.env, envc) : NULL;
  if (p != (char *)payload + size) fail("EXEC whose strings do not fill it");
  e.cwd = folders[0];

  c->id = id;
  c->status_fd = c->in.fd = c->tty = -1;
  c->share = folders[1][0] ? open(folders[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  for (int i = 0; i < 2; i++)
    c->out[i] = (struct output){.fd = -1, .stream = (uint8_t)(i + 1), .credit = WINDOW};
  c->next = commands;
  commands = c;
  command_count++;
  if ((e.flags & (EXEC_STDIN | EXEC_TTY)) && !(c->in.data = malloc(WINDOW))) {
    send_frame(FRAME_EXEC_FAILED, 0, id, 2, ENOMEM, STAGE_PREPARE);
    finish(c);
  } else if (!start(c, &e)) {
    send_frame(FRAME_EXEC_FAILED, 0, id, 2, (uint32_t)errno, STAGE_PREPARE);
    finish(c);
  }
out:
  free(e.groups);
  free(e.argv);
  free(e.env);
}

static void handle_data(struct command *c, const uint8_t *payload, size_t size) {
  struct input *in = &c->in;

  if (in->eof) fail("DATA after EOF");
  if (in->fd < 0) return; /* the command has closed it; the host will learn */
  if (in->tail - in->head + in->owed + size > WINDOW) fail("DATA without credit");
  if (WINDOW - in->tail < size) {
    memmove(in->data, in->data + in->head, in->tail - in->head);
    in->tail -= in->head;
    in->head = 0;
  }
  memcpy(in->data + in->tail, payload, size);
  in->tail += size;
  pump_input(c);
}

static void send_signal(struct command *c, uint32_t number) {
  if (number == 0 || number >= NSIG) fail("SIGNAL %u", number);
  if (c->pid <= 0) return;
  /* Before exec it may not have its own process group yet. */
  kill(c->status_fd >= 0 ? c->pid : -c->pid, (int)number);
}

static void set_clock(uint32_t seconds, uint32_t nanoseconds) {
  const struct timespec now = {.tv_sec = seconds, .tv_nsec = nanoseconds};

  if (is_init && clock_settime(CLOCK_REALTIME, &now) < 0) perror("node-optee agent: clock_settime");
}

static void handle_frame(uint8_t type, uint8_t stream, uint32_t id, uint8_t *payload, size_t size) {
  struct command *c = find(id);

  switch (type) {
    case FRAME_EXEC:
      handle_exec(id, payload, size);
      return;
    case FRAME_POWEROFF:
      end();
    case FRAME_CLOCK:
      if (size != 8) fail("frame 0x%02x of %zu bytes", type, size);
      set_clock(get32(payload), get32(payload + 4));
      return;
    case FRAME_DATA:
    case FRAME_EOF:
      if (stream != 0) fail("frame 0x%02x for stream %u", type, stream);
      break;
    case FRAME_CREDIT:
    case FRAME_CLOSE:
      if (stream != 1 && stream != 2) fail("frame 0x%02x for stream %u", type, stream);
      break;
    case FRAME_SIGNAL:
    case FRAME_WINSIZE:
      break;
    default:
      fail("frame of unknown type 0x%02x", type);
  }
  if ((type == FRAME_CREDIT || type == FRAME_SIGNAL || type == FRAME_WINSIZE) && size != 4)
    fail("frame 0x%02x of %zu bytes", type, size);
  if (!c) return; /* it ended while the frame was under way */

  switch (type) {
    case FRAME_DATA:
      handle_data(c, payload, size);
      break;
    case FRAME_EOF:
      c->in.eof = true;
      if (c->tty >= 0 && c->in.fd >= 0 && c->in.tail < WINDOW)
        c->in.data[c->in.tail++] = 4; /* closing would hang up */
      pump_input(c);
      break;
    case FRAME_CREDIT:
      if (get32(payload) > WINDOW - c->out[stream - 1].credit) fail("CREDIT beyond the window");
      c->out[stream - 1].credit += get32(payload);
      break;
    case FRAME_CLOSE:
      close_fd(&c->out[stream - 1].fd);
      break;
    case FRAME_SIGNAL:
      send_signal(c, get32(payload));
      break;
    case FRAME_WINSIZE:
      if (c->tty >= 0) {
        struct winsize w = {.ws_row = get16(payload), .ws_col = get16(payload + 2)};

        ioctl(c->tty, TIOCSWINSZ, &w);
      }
      break;
  }
}

static void read_port(void) {
  for (;;) {
    uint8_t *p = reserve(&rx, MAX_DATA);
    ssize_t n = read(port, p, rx.capacity - rx.tail);

    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) end(); /* the host is gone */
    rx.tail += (size_t)n;
    while (pending(&rx) >= HEADER_SIZE) {
      const uint8_t *header = rx.data + rx.head;
      uint32_t size = get32(header);
      uint8_t type = header[4];

      if (size > (type == FRAME_EXEC ? MAX_EXEC : MAX_DATA)) fail("frame 0x%02x of %u bytes", type, size);
      if (pending(&rx) < HEADER_SIZE + size) break;
      rx.head += HEADER_SIZE + size;
      handle_frame(type, header[5], get32(header + 8), rx.data + rx.head - size, size);
    }
    if (pending(&tx) >= TX_FULL) return;
  }
}

/* Did exec work? The pipe closes without a word when it did. */
static void read_status(struct command *c) {
  struct failure f;
  ssize_t n = read(c->status_fd, &f, sizeof(f));

  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n == (ssize_t)sizeof(f)) {
    send_frame(FRAME_EXEC_FAILED, 0, c->id, 2, f.error, f.stage);
    finish(c);
    return;
  }
  close_fd(&c->status_fd);
  send_frame(FRAME_STARTED, 0, c->id, 0, 0, 0);
}

/* Writes to the share succeed when they are in the guest's memory. Whether the host has room for them is
 * known when they are written back: syncfs() tells of all that failed since the folder was opened. */
static void start_sync(struct command *c) {
  if (c->share < 0) return;
  c->syncer = fork();
  if (c->syncer == 0) _exit(syncfs(c->share) < 0 ? errno : 0);
  if (c->syncer < 0) {
    c->syncer = 0;
    if (syncfs(c->share) < 0) c->lost = (uint32_t)errno;
  }
}

/* A command has ended: what it has written until now is still to be sent. */
static void end_command(struct command *c, int wait_status) {
  c->pid = 0;
  if (c->done) return;
  if (c->status_fd >= 0) read_status(c);
  if (c->done) return;
  c->ended = true;
  c->wait_status = wait_status;
  close_input(c);
  for (int i = 0; i < 2; i++) {
    int available = 0;

    if (c->tty >= 0)
      available = TTY_DRAIN;
    else if (c->out[i].fd >= 0 && ioctl(c->out[i].fd, FIONREAD, &available) < 0)
      available = 0;
    c->out[i].left = (size_t)available;
  }
  start_sync(c);
}

static void reap(void) {
  int wait_status;
  pid_t pid;

  while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
    struct command *c = commands;

    while (c && c->pid != pid && c->syncer != pid) c = c->next;
    if (!c) {
      supplicant_ended(pid, wait_status); /* or an orphan */
    } else if (c->syncer == pid) {
      c->syncer = 0;
      if (WIFEXITED(wait_status)) c->lost = (uint32_t)WEXITSTATUS(wait_status);
    } else {
      end_command(c, wait_status);
    }
  }
}

/* What an ended command left in its pipes, then EXIT. */
static void drain(struct command *c) {
  bool empty = true;

  for (int i = 0; i < 2; i++) {
    pump_output(c, &c->out[i]);
    if (c->out[i].fd >= 0 && c->out[i].left > 0) empty = false;
  }
  if (!empty || c->syncer) return;
  send_frame(FRAME_EXIT, 0, c->id, 2, (uint32_t)c->wait_status, c->lost);
  finish(c);
}

static void sweep(void) {
  struct command **link = &commands;

  while (*link) {
    struct command *c = *link;

    if (c->done && c->pid == 0 && c->out[0].fd < 0 && c->out[1].fd < 0) {
      *link = c->next;
      free(c);
      command_count--;
    } else {
      link = &c->next;
    }
  }
}

enum { POLL_PORT, POLL_SIGNALS, POLL_FIRST, POLL_PER_COMMAND = 4 };

static _Noreturn void loop(int signals) {
  /* poll() ignores negative descriptors, so each command has the same four places. */
  static struct pollfd fds[POLL_FIRST + MAX_COMMANDS * POLL_PER_COMMAND];

  for (;;) {
    nfds_t count = POLL_FIRST;
    struct pollfd *f;

    for (struct command *c = commands; c; c = c->next)
      if (c->ended && !c->done) drain(c);
    sweep();
    flush_tx();
    fds[POLL_PORT] = (struct pollfd){
        .fd = port,
        .events = (short)((pending(&tx) < TX_FULL ? POLLIN : 0) | (pending(&tx) ? POLLOUT : 0)),
    };
    fds[POLL_SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (struct command *c = commands; c; c = c->next) {
      f = &fds[count];
      count += POLL_PER_COMMAND;
      f[0] = (struct pollfd){.fd = c->status_fd, .events = POLLIN};
      /* With nothing to write it is watched for errors alone: the command may close its input. */
      f[1] = (struct pollfd){.fd = c->in.fd, .events = c->in.head < c->in.tail ? POLLOUT : 0};
      if (c->tty >= 0 && !f[1].events) f[1].fd = -1;
      for (int i = 0; i < 2; i++) {
        bool wanted = c->done || (!c->ended && c->out[i].credit > 0 && pending(&tx) < TX_HIGH);

        f[2 + i] = (struct pollfd){.fd = wanted ? c->out[i].fd : -1, .events = POLLIN};
      }
    }
    if (poll(fds, count, tend_supplicant()) < 0) {
      if (errno == EINTR || errno == ENOMEM) continue;
      fail("poll: %s", strerror(errno));
    }

    /* Commands first, in the order of their places: what comes from the port changes the list. */
    f = &fds[POLL_FIRST];
    for (struct command *c = commands; c; c = c->next, f += POLL_PER_COMMAND) {
      if (c->done) {
        for (int i = 0; i < 2; i++)
          if (f[2 + i].revents) discard(&c->out[i]);
        continue;
      }
      if (f[0].revents && c->status_fd >= 0) read_status(c);
      if (c->done) continue;
      if (f[1].revents & POLLOUT) {
        pump_input(c);
      } else if (f[1].revents & (POLLERR | POLLHUP)) {
        close_input(c);
        send_frame(FRAME_CLOSE, 0, c->id, 0, 0, 0);
      }
      for (int i = 0; i < 2; i++)
        if (f[2 + i].revents && c->status_fd < 0) pump_output(c, &c->out[i]);
    }
    if (fds[POLL_SIGNALS].revents) {
      struct signalfd_siginfo info;

      while (read(signals, &info, sizeof(info)) > 0)
        ;
      reap();
    }
    if (fds[POLL_PORT].revents & POLLIN)
      read_port();
    else if (fds[POLL_PORT].revents & (POLLHUP | POLLERR | POLLNVAL))
      end();
  }
}

_Noreturn void serve(int fd) {
  /* Each command takes up to FDS_PER_COMMAND descriptors, and poll() no more than there may be. */
  rlim_t files = raise_file_limit();
  sigset_t set;
  int signals;

  if (files < MAX_COMMANDS * FDS_PER_COMMAND) max_commands = files / FDS_PER_COMMAND;
  is_init = getpid() == 1;
  umask(022);
  signal(SIGPIPE, SIG_IGN);
  sigfillset(&set);
  sigprocmask(SIG_BLOCK, &set, NULL);
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) fail("signalfd: %s", strerror(errno));
  port = fd >= 0 ? fd : wait_for_port();
  if (port < 0) fail("no virtio-serial port named node-optee.agent, or no host behind it");
  if (fcntl(port, F_SETFL, O_RDWR | O_NONBLOCK) < 0) fail("fcntl: %s", strerror(errno));
  if (is_init) {
    const char *trouble = wait_for_tee();

    if (trouble) fail("%s", trouble);
  }
  send_frame(FRAME_HELLO, 0, 0, 1, PROTOCOL_VERSION, 0);
  loop(signals);
}
