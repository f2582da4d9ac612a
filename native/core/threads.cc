#include "threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace core {

namespace {

constexpr size_t kStack = 256 * 1024;

struct Start {
  const char* name;
  std::function<void()> body;
};

void* begin(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  pthread_setname_np(pthread_self(), start->name);
  start->body();
  return nullptr;
}

}  // namespace

int startThread(const char* name, std::function<void()> body) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStack);
  // The new thread inherits the mask of this one.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto start = std::make_unique<Start>(Start{name, std::move(body)});
  pthread_t thread;
  error = pthread_create(&thread, &attributes, begin, start.get());
  if (error == 0) start.release();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

int Threads::post(std::shared_ptr<Task> task) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.empty() && alive_ < bound_) {
    const int error = addThread();
    if (error != 0 && alive_ == 0) return error;
  }
  Task& posted = *task;
  posted.place_ = tasks_.insert(tasks_.end(), std::move(task));
  posted.waiting_ = true;
  if (!idle_.empty()) {
    idle_.back()->woken = true;
    idle_.back()->wake.notify_one();
    idle_.pop_back();
  }
  return 0;
}

bool Threads::remove(Task& task) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!task.waiting_) return false;
  task.waiting_ = false;
  tasks_.erase(task.place_);
  return true;
}

unsigned Threads::alive() {
  std::lock_guard<std::mutex> lock(mutex_);
  return alive_;
}

int Threads::addThread() {
  const int error = startThread(name_, [self = shared_from_this()] { self->work(); });
  if (error == 0) alive_++;
  return error;
}

void Threads::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    while (!tasks_.empty()) {
      std::shared_ptr<Task> task = std::move(tasks_.front());
      tasks_.pop_front();
      task->waiting_ = false;
      lock.unlock();
      task->run();
      task.reset();
      lock.lock();
    }
    Idle idle;
    idle_.push_back(&idle);
    if (idle.wake.wait_for(lock, kIdle, [&] { return idle.woken; })) continue;
    idle_.erase(std::find(idle_.begin(), idle_.end(), &idle));
    alive_--;
    return;
  }
}

}  // namespace core
