/* What an init does: file systems, device permissions, loopback; and it keeps tee-supplicant running. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum {
  WAIT_MS = 20000,
  /* How long tee-supplicant stays down: doubled each time, until one lives longer than the longest wait. */
  RESTART_MIN_MS = 100,
  RESTART_MAX_MS = 1000,
};

static struct {
  pid_t pid; /* 0: none */
  int64_t started;
  int64_t due; /* when to start the next one; 0: never */
  int wait;
} supplicant;

static int64_t now_ms(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const struct {
  const char *source, *target, *type, *options;
  unsigned long flags;
} mounts[] = {
    {"proc", "/proc", "proc", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sysfs", "/sys", "sysfs", "", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"debugfs", "/sys/kernel/debug", "debugfs", "mode=700", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"devpts", "/dev/pts", "devpts", "gid=5,mode=620", MS_NOSUID | MS_NOEXEC},
    {"tmpfs", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
    {"tmpfs", "/run", "tmpfs", "mode=755", MS_NOSUID | MS_NODEV},
    {"/dev/vdb", "/opt/node", "ext4", "", MS_RDONLY | MS_NODEV},
};

/* What udev would make. */
static void link_descriptors(void) {
  static const char *const links[][2] = {
      {"/proc/self/fd", "/dev/fd"},
      {"fd/0", "/dev/stdin"},
      {"fd/1", "/dev/stdout"},
      {"fd/2", "/dev/stderr"},
  };

  for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
    if (symlink(links[i][0], links[i][1]) < 0) perror(links[i][1]);
}

static void mount_all(void) {
  mkdir("/dev/pts", 0755);
  mkdir("/dev/shm", 0755);
  for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++)
    if (mount(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].options) < 0)
      perror(mounts[i].target);
}

/* For the entries of /dev/… that begin with this prefix and a digit, or for all if there is no prefix. */
static void give_devices(const char *folder, const char *prefix, gid_t gid) {
  DIR *dir = opendir(folder);
  struct dirent *entry;

  if (!dir) return;
  while ((entry = readdir(dir))) {
    const char *name = entry->d_name;
    size_t length = strlen(prefix);

    if (name[0] == '.' || strncmp(name, prefix, length) != 0) continue;
    if (length > 0 && (name[length] < '0' || name[length] > '9')) continue;
    if (fchownat(dirfd(dir), name, 0, gid, 0) < 0 || fchmodat(dirfd(dir), name, 0660, 0) < 0) perror(name);
  }
  closedir(dir);
}

/* What is written to the share and not closed yet is on the host after a second or two, not after half a
 * minute. */
static void write_back_soon(void) {
  static const char *const files[] = {
      "/proc/sys/vm/dirty_expire_centisecs",
      "/proc/sys/vm/dirty_writeback_centisecs",
  };

  for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
    int fd = open(files[i], O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "100", 3) < 0) perror(files[i]);
    if (fd >= 0) close(fd);
  }
}

/* Linux lends the pages of CMA areas out once they are more than half of what is free. Memory that a program
 * shares with the TEE is pinned: in such an area it keeps a heap from allocating, and on machine dmabuf
 * OP-TEE refuses what lies in the protected range. So more than that has to stay free. */
static void keep_cma_free(void) {
  FILE *in = fopen("/proc/meminfo", "re");
  FILE *out = fopen("/proc/sys/vm/min_free_kbytes", "we");
  char line[128];
  unsigned long total = 0;

  while (in && fgets(line, sizeof(line), in))
    if (sscanf(line, "CmaTotal: %lu kB", &total) == 1) break;
  if (!in || !out || fprintf(out, "%lu", 2 * total + 16 * 1024) < 0) perror("min_free_kbytes");
  if (in) fclose(in);
  if (out && fclose(out) != 0) perror("min_free_kbytes");
}

static void loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) perror("lo");
  if (fd >= 0) close(fd);
}

static void start_supplicant(void) {
  char *argv[] = {"tee-supplicant", NULL};
  char *env[] = {"PATH=/usr/sbin:/usr/bin", NULL};
  sigset_t none;

  supplicant.started = now_ms();
  supplicant.due = 0;
  supplicant.pid = fork();
  if (supplicant.pid == 0) {
    /* Those of PID 1 are not for it. */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    execve("/usr/sbin/tee-supplicant", argv, env);
    perror("tee-supplicant");
    _exit(127);
  }
  if (supplicant.pid < 0) perror("tee-supplicant");
}

/* A line in the kernel's log, which is also shown on the console. */
static void warn(const char *text) {
  char line[160];
  int size = snprintf(line, sizeof(line), "<4>node-optee: %s\n", text);
  int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

  /* One write is one line. (Not dprintf, which seeks.) */
  if (fd < 0 || write(fd, line, (size_t)size) < 0) perror("/dev/kmsg");
  if (fd >= 0) close(fd);
}

void supplicant_ended(pid_t pid, int status) {
  char text[128];
  bool wanted;

  if (supplicant.pid <= 0 || pid != supplicant.pid) return;
  supplicant.pid = 0;
  /* As for a service manager: whoever ends it in an orderly way wants it to be down. */
  wanted = WIFSIGNALED(status) ? WTERMSIG(status) == SIGTERM : WEXITSTATUS(status) == 0;
  if (!wanted) {
    bool lived = now_ms() - supplicant.started > RESTART_MAX_MS;

    supplicant.wait = lived || !supplicant.wait ? RESTART_MIN_MS : supplicant.wait * 2;
    if (supplicant.wait > RESTART_MAX_MS) supplicant.wait = RESTART_MAX_MS;
    supplicant.due = now_ms() + supplicant.wait;
  }
  snprintf(text, sizeof(text), "tee-supplicant ended (%s %d); it %s",
           WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
           wanted ? "was told to, and stays down" : "is started again");
  warn(text);
}

int tend_supplicant(void) {
  int64_t left;

  if (!supplicant.due) return -1;
  left = supplicant.due - now_ms();
  if (left > 0) return (int)left;
  start_supplicant();
  return -1;
}

/* A device that it has open is among its first descriptors. */
static bool has_open(pid_t pid, const char *path) {
  for (int fd = 0; fd < 16; fd++) {
    char name[64], target[64];
    ssize_t n;

    snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)pid, fd);
    n = readlink(name, target, sizeof(target));
    if (n == (ssize_t)strlen(path) && memcmp(target, path, strlen(path)) == 0) return true;
  }
  return false;
}

const char *wait_for_tee(void) {
  const struct timespec step = {.tv_nsec = 2000000};

  if (access("/dev/tee0", F_OK) < 0) return "Linux has found no OP-TEE: there is no /dev/tee0";
  for (int waited = 0; waited < WAIT_MS; waited += 2) {
    if (has_open(supplicant.pid, "/dev/teepriv0")) return NULL;
    if (supplicant.pid < 0 || waitpid(supplicant.pid, NULL, WNOHANG) == supplicant.pid)
      return "tee-supplicant did not start, or ended at once";
    nanosleep(&step, NULL);
  }
  return "tee-supplicant does not open its device";
}

void init_machine(void) {
  const struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};

  umask(022);
  mount_all();
  link_descriptors();
  /* /dev/teepriv0 stays root's alone: it is the supplicant's. */
  give_devices("/dev", "tee", TEE_GID);
  give_devices("/dev/dma_heap", "", VIDEO_GID);
  start_supplicant();
  loopback_up();
  write_back_soon();
  keep_cma_free();
  if (sethostname("node-optee", strlen("node-optee")) < 0) perror("sethostname");
  setrlimit(RLIMIT_NOFILE, &files);
}
