// A look at a descriptor, for a message that says what is wrong with it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace core {

inline bool isOpen(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

// What /proc/self/fd says that it is; empty if it does not.
inline std::string linkOf(int fd) {
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  char link[4096];
  const ssize_t length = readlink(path, link, sizeof(link));
  return length < 0 ? std::string() : std::string(link, static_cast<size_t>(length));
}

}  // namespace core
