#include "remains.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "in_tee.h"

namespace core {

namespace {

struct Left {
  std::mutex mutex;
  std::condition_variable less;
  size_t count = 0;
};

// Never destroyed, as the reaper.
Left& left() {
  static auto* left = new Left;
  return *left;
}

void letGo(Remains& remains) {
  remains.fd.reset();
  remains.pages.reset();
  remains.keeper.reset();
}

void run(void* what) {
  auto* remains = static_cast<Remains*>(what);
  letGo(*remains);
  delete remains;
  std::lock_guard<std::mutex> lock(left().mutex);
  left().count--;
  left().less.notify_all();
}

}  // namespace

void Remains::leaveTo(Threads& threads, Remains remains) {
  if (!remains.keeper && !remains.pages && !remains.fd.valid()) return;
  if (!InTee::any()) {
    letGo(remains);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(left().mutex);
    left().count++;
  }
  auto* later = new Remains(std::move(remains));
  if (threads.post({core::run, later}) != 0) core::run(later);
}

bool Remains::settle(std::chrono::milliseconds most) {
  std::unique_lock<std::mutex> lock(left().mutex);
  if (left().count == 0) return false;
  left().less.wait_for(lock, most, [] { return left().count == 0; });
  return true;
}

const std::shared_ptr<Threads>& reaper() {
  static const auto* threads = new std::shared_ptr<Threads>(std::make_shared<Threads>("optee-close", 1));
  return *threads;
}

}  // namespace core
