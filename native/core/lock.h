// A mutex that is one atomic operation to take and one to let go of where nobody waits for it, both inline.
// libc's, which can do more, were an eighth of what a blocking call ran outside the kernel.
#pragma once

#include <atomic>

namespace core {

class Lock {
 public:
  Lock() = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  void lock() {
    int free = kFree;
    if (!state_.compare_exchange_strong(free, kTaken, std::memory_order_acquire, std::memory_order_relaxed)) {
      await();
    }
  }

  // Nothing of the lock is read after it is free: whoever takes it next may end it.
  void unlock() {
    if (state_.exchange(kFree, std::memory_order_release) == kAwaited) wake();
  }

 private:
  static constexpr int kFree = 0;
  static constexpr int kTaken = 1;
  static constexpr int kAwaited = 2;

  // Whoever has waited takes it as one that is awaited, since others may wait still.
  [[gnu::cold, gnu::noinline]] void await() {
    while (state_.exchange(kAwaited, std::memory_order_acquire) != kFree) {
      state_.wait(kAwaited, std::memory_order_relaxed);
    }
  }

  [[gnu::cold, gnu::noinline]] void wake() { state_.notify_one(); }

  std::atomic<int> state_{kFree};
};

}  // namespace core
