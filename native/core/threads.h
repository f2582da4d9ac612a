// Named threads for what can block: as many as there is work for, up to a bound. An idle one ends after a
// while. They are never joined: one that is in an ioctl finishes when the TEE does, and all that its task
// needs is held by the task.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace core {

// What to run, once: either run() or, when it cannot be run at all, nothing.
struct Task {
  void (*run)(void* what) = nullptr;
  void* what = nullptr;
};

using Clock = std::chrono::steady_clock;
constexpr Clock::duration kIdle = std::chrono::seconds(5);

class Threads : public std::enable_shared_from_this<Threads> {
 public:
  // name: at most 15 characters. spin: how long a thread may look for its next task before it sleeps.
  Threads(const char* name, unsigned bound, Clock::duration spin = Clock::duration::zero())
      : name_(name), bound_(bound), spin_(spin), needed_(bound + 1) {}
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // In the order of posting, as far as more than one thread has an order. 0, or the errno of the first thread
  // that could not be made (then the task is not taken); where some are there already, the task waits for
  // one.
  int post(Task task);
  // Only for a task of these threads, as its last deed: this very thread is the one that takes the next, so
  // none has to be woken.
  void postNext(Task task);
  // Takes a task back that no thread has begun. False if there is none (any more).
  bool remove(void* what);
  // Not before the time has come, and never if there is no thread to be had.
  int postAt(Clock::time_point when, Task task);
  unsigned alive();

 private:
  struct Delayed {
    Clock::time_point when;
    Task task;
  };

  static void* main(void* self);
  int addThread();
  void work();
  void spin(std::unique_lock<std::mutex>& lock);
  void takeDue(Clock::time_point now);

  const char* const name_;
  const unsigned bound_;
  const Clock::duration spin_;
  // Nonzero when there is something in tasks_ for the thread that spins.
  std::atomic<size_t> posted_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;
  std::vector<Delayed> delayed_;
  // When so many threads were at work last. They take turns, so it is one too many that ends, whichever it
  // is.
  std::vector<Clock::time_point> needed_;
  unsigned alive_ = 0;
  unsigned idle_ = 0;
  bool spinning_ = false;
  unsigned vain_ = 0;  // how long it did not pay
  unsigned skip_ = 0;
};

}  // namespace core
