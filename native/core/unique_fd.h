// A descriptor with one owner in the whole process.
#pragma once

#include <utility>

namespace core {

class UniqueFd {
 public:
  UniqueFd() = default;
  // Of a descriptor that was just made, and so is nobody else's; -1 is none.
  explicit UniqueFd(int fd);
  // Of a descriptor that somebody hands over: not valid if another UniqueFd owns it, in any thread.
  static UniqueFd adopt(int fd);
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

}  // namespace core
