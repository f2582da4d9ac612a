#include "unique_fd.h"

#include <unistd.h>

#include <mutex>
#include <unordered_set>

namespace core {

namespace {

struct Owned {
  std::mutex mutex;
  std::unordered_set<int> fds;
};

// Never destroyed: other threads may work while the process exits.
Owned& owned() {
  static auto* owned = new Owned;
  return *owned;
}

// False if it is there already.
bool add(int fd) {
  std::lock_guard<std::mutex> lock(owned().mutex);
  return owned().fds.insert(fd).second;
}

}  // namespace

UniqueFd::UniqueFd(int fd) : fd_(fd) {
  if (valid()) add(fd);
}

UniqueFd UniqueFd::adopt(int fd) {
  UniqueFd adopted;
  if (fd >= 0 && add(fd)) adopted.fd_ = fd;
  return adopted;
}

void UniqueFd::reset() {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0) return;
  {
    // Before the close: from then on the number can be another thread's.
    std::lock_guard<std::mutex> lock(owned().mutex);
    owned().fds.erase(fd);
  }
  // Not repeated on EINTR: Linux has let go of the number by then.
  close(fd);
}

}  // namespace core
