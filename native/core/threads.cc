#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace core {

namespace {

constexpr size_t kStack = 256 * 1024;
constexpr unsigned kMostSkips = 63;

}  // namespace

int Threads::post(Task task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (tasks_.size() >= idle_ + (spinning_ ? 1 : 0) && alive_ < bound_) {
      int error = addThread();
      if (error != 0 && alive_ == 0) return error;
    }
    tasks_.push_back(task);
    posted_.store(tasks_.size(), std::memory_order_relaxed);
    if (spinning_ && tasks_.size() == 1) return 0;  // the one that looks for it sees it
  }
  // Not under the lock: the thread that wakes would have to wait for it.
  wake_.notify_one();
  return 0;
}

void Threads::postNext(Task task) {
  std::lock_guard<std::mutex> lock(mutex_);
  tasks_.push_back(task);
  posted_.store(tasks_.size(), std::memory_order_relaxed);
}

bool Threads::remove(void* what) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(tasks_.begin(), tasks_.end(), [what](const Task& task) { return task.what == what; });
  if (found == tasks_.end()) return false;
  tasks_.erase(found);
  return true;
}

int Threads::postAt(Clock::time_point when, Task task) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (alive_ == 0) {
    int error = addThread();
    if (error != 0) return error;
  }
  delayed_.push_back({when, task});
  wake_.notify_one();
  return 0;
}

unsigned Threads::alive() {
  std::lock_guard<std::mutex> lock(mutex_);
  return alive_;
}

int Threads::addThread() {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStack);
  // Signals belong to Node's own threads. The new thread inherits the mask of this one.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto* self = new std::shared_ptr<Threads>(shared_from_this());
  pthread_t thread;
  error = pthread_create(&thread, &attributes, main, self);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    delete self;
    return error;
  }
  needed_[++alive_] = Clock::now();
  return 0;
}

void* Threads::main(void* self) {
  std::shared_ptr<Threads> threads(std::move(*static_cast<std::shared_ptr<Threads>*>(self)));
  delete static_cast<std::shared_ptr<Threads>*>(self);
  pthread_setname_np(pthread_self(), threads->name_);
  threads->work();
  return nullptr;
}

void Threads::takeDue(Clock::time_point now) {
  for (size_t i = 0; i < delayed_.size();) {
    if (delayed_[i].when <= now) {
      tasks_.push_back(delayed_[i].task);
      delayed_[i] = delayed_.back();
      delayed_.pop_back();
    } else {
      i++;
    }
  }
}

// Where each task is waited for before the next one is posted, waking this thread up is a good part of its
// time. So one thread that has nothing more to do looks out for the next one for a moment. Where that is in
// vain it is not tried again before 1, 3, 7, ... kMostSkips more tasks, so tasks that come one by one now and
// then cost next to nothing.
void Threads::spin(std::unique_lock<std::mutex>& lock) {
  if (spin_ == Clock::duration::zero() || spinning_ || !delayed_.empty()) return;
  if (skip_ > 0) {
    skip_--;
    return;
  }
  spinning_ = true;
  posted_.store(0, std::memory_order_relaxed);
  lock.unlock();
  const auto until = Clock::now() + spin_;
  while (posted_.load(std::memory_order_relaxed) == 0 && Clock::now() < until) sched_yield();
  lock.lock();
  spinning_ = false;
  vain_ = tasks_.empty() ? std::min(vain_ * 2 + 1, kMostSkips) : 0;
  skip_ = vain_;
}

void Threads::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (!delayed_.empty()) takeDue(Clock::now());
    if (!tasks_.empty()) {
      Task task = tasks_.front();
      tasks_.pop_front();
      lock.unlock();
      task.run(task.what);
      lock.lock();
      needed_[alive_ - idle_] = Clock::now();
      if (tasks_.empty()) spin(lock);
      continue;
    }
    const auto ends = needed_[alive_] + kIdle;
    if (delayed_.empty() && Clock::now() >= ends) break;
    auto until = delayed_.empty() ? ends : delayed_.front().when;
    for (const Delayed& later : delayed_) until = std::min(until, later.when);
    idle_++;
    wake_.wait_until(lock, until);
    idle_--;
  }
  needed_[alive_ - 1] = std::max(needed_[alive_ - 1], needed_[alive_]);
  alive_--;
}

}  // namespace core
