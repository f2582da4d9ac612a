/*
 * Prepares a booted guest for one host. One word for each thing to do, in their order:
 *
 *     share=PATH           mounts the share at the host's own path
 *     storage=             mounts the folder that keeps tee-supplicant's storage
 *     modules=PATH         mounts the node_modules image (/dev/vdc) over that folder of the share
 *     ta=N                 mounts the Nth folder of TAs
 *     link=NAME/N/FILE     makes FILE of that folder the TA that tee-supplicant finds by this name
 *     user=NAME:UID:GID    adds a user who may use the TEE and the dma-heaps
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define TA_FOLDER "/usr/lib/optee_armtz"
/* Of Debian's tee-supplicant. */
#define STORAGE_FOLDER "/var/lib/optee-client/data/tee"

/*
 * msize is the largest that the virtio transport takes. Of the cache modes, mmap is the one in which
 * everything works: the host's changes are seen at the next open, ours reach the host at close at the latest,
 * shared mappings work, and it is 20 to 50 times as fast as none, in which they do not.
 */
static const char share_options[] = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap";

/*
 * OP-TEE's storage survives an end in the middle of a write, as long as writes reach the disk in their order:
 * each goes to the host at once.
 */
static const char storage_options[] = "trans=virtio,version=9p2000.L,msize=512000,cache=none";

static bool complain(const char *format, ...) {
  va_list args;

  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  return false;
}

static bool make_folders(const char *path) {
  char part[PATH_MAX];
  size_t length = strlen(path);

  if (path[0] != '/' || length >= sizeof(part))
    return complain("%s: not an absolute path, or too long", path);
  for (size_t i = 1; i <= length; i++) {
    if (path[i] != '/' && path[i] != 0) continue;
    memcpy(part, path, i);
    part[i] = 0;
    if (mkdir(part, 0755) < 0 && errno != EEXIST)
      return complain("cannot make the folder %s: %s", part, strerror(errno));
  }
  return true;
}

static bool mount_folder(const char *tag, const char *path, unsigned long flags, const char *options) {
  if (!make_folders(path)) return false;
  if (mount(tag, path, "9p", flags, options) < 0)
    return complain("cannot mount %s at %s: %s", tag, path, strerror(errno));
  return true;
}

static bool mount_modules(const char *path) {
  struct stat st;

  /* Through a link the mount would hide what it points to. */
  if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
    return complain("%s is not a folder: the guest's modules cannot be mounted there", path);
  if (mkdir(path, 0755) < 0 && errno != EEXIST)
    return complain("cannot make the folder %s: %s", path, strerror(errno));
  if (mount("/dev/vdc", path, "ext4", MS_RDONLY | MS_NODEV, "") < 0)
    return complain("cannot mount the modules at %s: %s", path, strerror(errno));
  return true;
}

#define TA_MOUNT "/run/node-optee/ta/%s"

static bool mount_tas(const char *number) {
  char tag[32], folder[64];

  snprintf(tag, sizeof(tag), "ta%s", number);
  snprintf(folder, sizeof(folder), TA_MOUNT, number);
  return mount_folder(tag, folder, MS_RDONLY | MS_NOSUID | MS_NODEV, share_options) &&
         make_folders(TA_FOLDER);
}

/* A link, not a copy: a TA that is built anew is found by the next session. */
static bool link_ta(const char *value) {
  const char *file = strchr(value, '/');
  char from[PATH_MAX], to[PATH_MAX];

  if (!file) return complain("link=%s: not NAME/N/FILE", value);
  snprintf(from, sizeof(from), TA_MOUNT, file + 1);
  snprintf(to, sizeof(to), TA_FOLDER "/%.*s", (int)(file - value), value);
  unlink(to);
  return symlink(from, to) == 0 || complain("%s: %s", to, strerror(errno));
}

/* A line of /etc/passwd or /etc/group: its name, its third field as a number. */
static bool parse_line(char *line, char **name, unsigned *id) {
  char *save, *field = strtok_r(line, ":", &save);

  *name = field;
  if (!field || !strtok_r(NULL, ":", &save)) return false;
  field = strtok_r(NULL, ":\n", &save);
  if (!field) return false;
  *id = (unsigned)strtoul(field, NULL, 10);
  return true;
}

/* Looks a name or, without one, an id up. */
static bool listed(const char *file, const char *name, unsigned id) {
  FILE *f = fopen(file, "re");
  char line[1024], *found;
  unsigned found_id;
  bool yes = false;

  if (!f) return false;
  while (!yes && fgets(line, sizeof(line), f))
    if (parse_line(line, &found, &found_id)) yes = name ? strcmp(found, name) == 0 : found_id == id;
  fclose(f);
  return yes;
}

/* Writes /etc/group anew, with the user in `tee` and `video`, and in a group of that gid. */
static bool add_to_groups(const char *name, unsigned gid) {
  bool is_new = !listed("/etc/group", NULL, gid);
  FILE *from = fopen("/etc/group", "re"), *to = fopen("/etc/group.new", "we");
  char line[1024], copy[1024], *group;
  unsigned id;

  if (!from || !to) return complain("/etc/group: %s", strerror(errno));
  while (fgets(line, sizeof(line), from)) {
    line[strcspn(line, "\n")] = 0;
    strcpy(copy, line);
    fputs(line, to);
    if (parse_line(copy, &group, &id) && (id == TEE_GID || id == VIDEO_GID))
      fprintf(to, "%s%s", line[strlen(line) - 1] == ':' ? "" : ",", name);
    fputc('\n', to);
  }
  if (is_new) fprintf(to, "%s:x:%u:\n", name, gid);
  fclose(from);
  if (fclose(to) != 0 || rename("/etc/group.new", "/etc/group") < 0)
    return complain("/etc/group: %s", strerror(errno));
  return true;
}

static bool add_user(const char *value) {
  char name[33], home[64];
  unsigned uid, gid;
  FILE *f;

  if (sscanf(value, "%32[^:]:%u:%u", name, &uid, &gid) != 3)
    return complain("user=%s: not NAME:UID:GID", value);
  if (listed("/etc/passwd", name, 0)) return complain("the guest has a user %s already", name);
  snprintf(home, sizeof(home), "/home/%s", name);
  f = fopen("/etc/passwd", "ae");
  if (!f) return complain("/etc/passwd: %s", strerror(errno));
  fprintf(f, "%s:x:%u:%u::%s:/bin/sh\n", name, uid, gid, home);
  if (fclose(f) != 0) return complain("/etc/passwd: %s", strerror(errno));
  if (!add_to_groups(name, gid) || !make_folders(home)) return false;
  if (chown(home, uid, gid) < 0) return complain("%s: %s", home, strerror(errno));
  return true;
}

static bool mount_share(const char *path) {
  return mount_folder("share", path, 0, share_options);
}

static bool mount_storage(const char *value) {
  if (*value) return complain("storage=%s: has no value", value);
  return mount_folder("storage", STORAGE_FOLDER, MS_NOSUID | MS_NODEV, storage_options);
}

static const struct {
  const char *name;
  bool (*run)(const char *value);
} actions[] = {
    {"share=", mount_share}, {"storage=", mount_storage}, {"modules=", mount_modules},
    {"ta=", mount_tas},      {"link=", link_ta},          {"user=", add_user},
};

int set_up(int count, char **words) {
  for (int i = 0; i < count; i++) {
    size_t n = sizeof(actions) / sizeof(actions[0]), k = 0;

    while (k < n && strncmp(words[i], actions[k].name, strlen(actions[k].name)) != 0) k++;
    if (k == n) {
      complain("setup: unknown word %s", words[i]);
      return 1;
    }
    if (!actions[k].run(words[i] + strlen(actions[k].name))) return 1;
  }
  return 0;
}
