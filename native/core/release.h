// The end of registrations. The kernel's driver needs a free thread of the TEE to end one, and waits for it:
// so while calls of this process are in the TEE, a thread of our own does it.
#pragma once

#include <cerrno>
#include <chrono>
#include <memory>

#include "mapping.h"
#include "threads.h"
#include "unique_fd.h"

namespace core {

// A call that is in the TEE, or about to be: from its turn until the TEE is done.
class InTee {
 public:
  InTee();
  ~InTee();
  InTee(const InTee&) = delete;
  InTee& operator=(const InTee&) = delete;

  // Is any call of this process?
  static bool any();
};

// What a closed handle held; it goes in the order descriptor, pages, owner.
struct Held {
  std::shared_ptr<void> owner;  // keeps memory that is not ours
  std::shared_ptr<Mapping> pages;
  UniqueFd fd;
};

// At once where that cannot take long, else on the thread for it.
void release(Held held);
// At once, however long it takes.
void releaseHere(Held held);
// Waits until all releases that began before are done, at most so long. False if there were none.
bool waitForReleases(std::chrono::milliseconds most);
// Waits as long as there are more of them than a loop that opens and closes may leave behind.
void waitForFewReleases();

// The thread for releases. It is never destroyed: exit() may run while it works.
const std::shared_ptr<Threads>& releaser();

// EINVAL is what the kernel makes of a TEE that is out of memory.
template <typename Answer>
bool lacksRoom(const Answer& answer) {
  if (answer.ok()) return false;
  const int error = answer.failure().error;
  return error == EINVAL || error == ENOMEM;
}

// A request for memory. It may fail only because releases are under way, so it waits for them, under a second
// in all.
//
// The retries also wake a release up: where two callers wait for one of OP-TEE's threads, the kernel's driver
// can wake the wrong one, which then is idle until a third call ends (drivers/tee/optee/call.c,
// optee_cq_complete_one).
template <typename Request>
auto withRoom(Request request) {
  waitForFewReleases();
  std::chrono::milliseconds wait(20);
  bool waited = waitForReleases(wait);
  auto answer = request();
  while (waited && lacksRoom(answer) && wait < std::chrono::milliseconds(320)) {
    waited = waitForReleases(wait *= 2);
    answer = request();
  }
  return answer;
}

// Memory that is kept for later calls.
class IdleMemory {
 public:
  // Lets go of all that no call uses: its room may be what another request lacks. False if there was nothing.
  virtual bool releaseIdle() = 0;

 protected:
  ~IdleMemory() = default;
};

// The same of a request to the TEE, whose room idle memory may take.
template <typename Request>
auto withRoom(IdleMemory& idle, Request request) {
  auto answer = withRoom(request);
  if (lacksRoom(answer) && idle.releaseIdle()) {
    waitForReleases(std::chrono::milliseconds(320));
    answer = request();
  }
  return answer;
}

}  // namespace core
