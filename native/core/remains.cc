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

void end(Remains& remains) {
  remains.fd.reset();
  remains.pages.reset();
  remains.keeper.reset();
}

void oneMore() {
  std::lock_guard<std::mutex> lock(left().mutex);
  left().count++;
}

void oneLess() {
  std::lock_guard<std::mutex> lock(left().mutex);
  left().count--;
  left().less.notify_all();
}

void run(void* what) {
  auto* remains = static_cast<Remains*>(what);
  end(*remains);
  delete remains;
  oneLess();
}

}  // namespace

void Remains::leaveTo(Threads& threads, Remains remains) {
  if (!remains.keeper && !remains.pages && !remains.fd.valid()) return;
  if (!InTee::any()) {
    end(remains);
    return;
  }
  oneMore();
  auto* later = new Remains(std::move(remains));
  if (threads.post({core::run, later}) != 0) core::run(later);
}

void Remains::letGo(Remains remains) {
  oneMore();
  end(remains);
  oneLess();
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
