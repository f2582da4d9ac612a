#include "threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace core {

namespace {

constexpr size_t kStack = 256 * 1024;

}  // namespace

int Threads::post(Task task) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (tasks_.size() >= idle_ && alive_ < bound_) {
    int error = addThread();
    if (error != 0 && alive_ == 0) return error;
  }
  tasks_.push_back(task);
  wake_.notify_one();
  return 0;
}

void Threads::postNext(Task task) {
  std::lock_guard<std::mutex> lock(mutex_);
  tasks_.push_back(task);
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
  alive_++;
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

void Threads::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  auto ends = Clock::now() + kIdle;
  for (;;) {
    if (!delayed_.empty()) takeDue(Clock::now());
    if (!tasks_.empty()) {
      Task task = tasks_.front();
      tasks_.pop_front();
      lock.unlock();
      task.run(task.what);
      lock.lock();
      ends = Clock::now() + kIdle;
      continue;
    }
    if (delayed_.empty() && Clock::now() >= ends) break;
    auto until = delayed_.empty() ? ends : delayed_.front().when;
    for (const Delayed& later : delayed_) until = std::min(until, later.when);
    idle_++;
    wake_.wait_until(lock, until);
    idle_--;
  }
  alive_--;
}

}  // namespace core
