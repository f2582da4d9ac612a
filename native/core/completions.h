// Calls that have ended, on their way to the thread that made them.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "call.h"
#include "lock.h"

namespace core {

class Completions {
 public:
  // wake: called, from any thread, when there is something again after there was nothing. It must not come
  // back here.
  Completions(void (*wake)(void* waker), void* waker) : wake_(wake), waker_(waker) {}
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  // After close() nobody takes it, and it ends here.
  void post(std::unique_ptr<Call> call) {
    {
      std::lock_guard<Lock> lock(mutex_);
      if (!open_) return;
      ended_.push_back(std::move(call));
      if (ended_.size() != 1) return;
    }
    // Not under the lock: the thread that wakes up takes it at once.
    wake();
  }

  // For news of another kind.
  void wake() {
    std::lock_guard<Lock> lock(wakeMutex_);
    if (wakes_) wake_(waker_);
  }

  // In the order of posting.
  void take(std::vector<std::unique_ptr<Call>>& into) {
    into.clear();
    std::lock_guard<Lock> lock(mutex_);
    ended_.swap(into);
  }

  // wake is not called any more once this has returned.
  void close() {
    std::vector<std::unique_ptr<Call>> dead;
    {
      std::lock_guard<Lock> lock(mutex_);
      open_ = false;
      ended_.swap(dead);
    }
    std::lock_guard<Lock> lock(wakeMutex_);
    wakes_ = false;
  }

 private:
  void (*const wake_)(void* waker);
  void* const waker_;
  Lock mutex_;
  bool open_ = true;
  std::vector<std::unique_ptr<Call>> ended_;
  Lock wakeMutex_;
  bool wakes_ = true;
};

}  // namespace core
