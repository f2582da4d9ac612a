// What JavaScript waits for, on its way back to the thread that asked for it.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "protocol.h"
#include "result.h"
#include "threads.h"

namespace core {

class Completions;

struct Answer {
  int32_t status = Status::answered;
  uint32_t detail = 0;
  uint32_t result = 0;
  uint32_t origin = 0;
  uint32_t flags = 0;

  bool answered() const { return status == Status::answered; }
  // The TEE was not asked, or has not answered. which: the parameter, argument or operation that is to blame.
  void refuse(int32_t why, uint32_t which = 0) {
    status = why;
    detail = which;
  }
  void fail(Failure failure) { refuse(failure.error, static_cast<uint32_t>(failure.operation)); }
};

// Work on another thread whose answer is told when it has ended. This one has no work of its own.
class Job : public Task {
 public:
  void run() override {}

  Answer answer;
  uint32_t ticket = 0;  // what JavaScript knows it by
  // Where it goes when it has ended; nowhere if nobody waits for it.
  std::shared_ptr<Completions> completions;
};

class Completions {
 public:
  // wake: called, from any thread, when there is something again after there was nothing. It must not come
  // back here.
  Completions(void (*wake)(void* waker), void* waker) : wake_(wake), waker_(waker) {}
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  // After close() nobody takes it.
  void post(std::shared_ptr<Job> job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!open_) return;
      ended_.push_back(std::move(job));
      if (ended_.size() != 1) return;
    }
    wake();
  }

  // For news of another kind.
  void wake() {
    std::lock_guard<std::mutex> lock(wakeMutex_);
    if (wakes_) wake_(waker_);
  }

  // In the order of posting.
  std::vector<std::shared_ptr<Job>> take() {
    std::vector<std::shared_ptr<Job>> ended;
    std::lock_guard<std::mutex> lock(mutex_);
    ended_.swap(ended);
    return ended;
  }

  // wake is not called any more once this has returned.
  void close() {
    std::vector<std::shared_ptr<Job>> dead;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      open_ = false;
      ended_.swap(dead);
    }
    std::lock_guard<std::mutex> lock(wakeMutex_);
    wakes_ = false;
  }

 private:
  void (*const wake_)(void* waker);
  void* const waker_;
  std::mutex mutex_;
  bool open_ = true;
  std::vector<std::shared_ptr<Job>> ended_;
  std::mutex wakeMutex_;  // held while wake_ runs
  bool wakes_ = true;
};

}  // namespace core
