// Named threads for what can block: as many as there is work for, up to a bound. An idle one ends after a
// while. They are never joined: one that is in an ioctl finishes when the TEE does, and all that its task
// needs is held by the task.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace core {

using Clock = std::chrono::steady_clock;
// What is not used for so long goes: threads, temporary memory.
constexpr Clock::duration kIdle = std::chrono::seconds(5);

// Starts a detached thread. Signals belong to Node's own threads, so all are blocked in it.
// name: at most 15 characters. Returns 0 or an errno.
int startThread(const char* name, std::function<void()> body);

// Something to run, once.
class Task : public std::enable_shared_from_this<Task> {
 public:
  virtual ~Task() = default;
  virtual void run() = 0;

 private:
  friend class Threads;

  // While it waits for a thread.
  bool waiting_ = false;
  std::list<std::shared_ptr<Task>>::iterator place_;
};

class FunctionTask : public Task {
 public:
  explicit FunctionTask(std::function<void()> function) : function_(std::move(function)) {}
  void run() override { function_(); }

 private:
  const std::function<void()> function_;
};

class Threads : public std::enable_shared_from_this<Threads> {
 public:
  Threads(const char* name, unsigned bound) : name_(name), bound_(bound) {}
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  // Tasks begin in the order in which they were posted. Returns 0, or the errno of the thread that could not
  // be made where there is no other one; then the task is not taken.
  int post(std::shared_ptr<Task> task);
  // Takes back a task that no thread has begun. False if it has (or was never posted).
  bool remove(Task& task);
  unsigned alive();

 private:
  struct Idle {
    std::condition_variable wake;
    bool woken = false;
  };

  int addThread();
  void work();

  const char* const name_;
  const unsigned bound_;
  std::mutex mutex_;
  std::list<std::shared_ptr<Task>> tasks_;
  // The last one is woken first, so that those which are not needed find out.
  std::vector<Idle*> idle_;
  unsigned alive_ = 0;
};

}  // namespace core
