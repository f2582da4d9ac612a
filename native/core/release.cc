#include "release.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace core {

namespace {

constexpr size_t kMostReleases = 32;

std::atomic<unsigned> callsInTee{0};

struct Releases {
  std::mutex mutex;
  std::condition_variable fewer;
  size_t count = 0;
};

// Never destroyed, as the releaser.
Releases& releases() {
  static auto* releases = new Releases;
  return *releases;
}

// From its making until it has been released.
class Release : public Task {
 public:
  explicit Release(Held held) : held_(std::move(held)) {
    std::lock_guard<std::mutex> lock(releases().mutex);
    releases().count++;
  }

  ~Release() override {
    std::lock_guard<std::mutex> lock(releases().mutex);
    releases().count--;
    releases().fewer.notify_all();
  }

  void run() override {
    held_.fd.reset();
    held_.pages.reset();
    held_.owner.reset();
  }

 private:
  Held held_;
};

}  // namespace

InTee::InTee() {
  callsInTee.fetch_add(1, std::memory_order_relaxed);
}

InTee::~InTee() {
  callsInTee.fetch_sub(1, std::memory_order_relaxed);
}

bool InTee::any() {
  return callsInTee.load(std::memory_order_relaxed) != 0;
}

void release(Held held) {
  if (!held.owner && !held.pages && !held.fd.valid()) return;
  auto task = std::make_shared<Release>(std::move(held));
  if (!InTee::any() || releaser()->post(task) != 0) task->run();
}

void releaseHere(Held held) {
  Release(std::move(held)).run();
}

bool waitForReleases(std::chrono::milliseconds most) {
  std::unique_lock<std::mutex> lock(releases().mutex);
  if (releases().count == 0) return false;
  releases().fewer.wait_for(lock, most, [] { return releases().count == 0; });
  return true;
}

void waitForFewReleases() {
  std::unique_lock<std::mutex> lock(releases().mutex);
  releases().fewer.wait(lock, [] { return releases().count <= kMostReleases; });
}

const std::shared_ptr<Threads>& releaser() {
  static const auto* threads = new std::shared_ptr<Threads>(std::make_shared<Threads>("optee-release", 1));
  return *threads;
}

}  // namespace core
