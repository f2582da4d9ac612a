// What is left of a closed handle. The end of a registration waits for a free thread of the TEE: while calls
// of this process are in the TEE it is left to a thread that may block.
#pragma once

#include <cerrno>
#include <chrono>
#include <memory>

#include "mapping.h"
#include "threads.h"
#include "unique_fd.h"

namespace core {

// What a handle held. It is let go of in the order: descriptor, pages, keeper.
struct Remains {
  std::shared_ptr<void> keeper;
  std::shared_ptr<Mapping> pages;
  UniqueFd fd;

  // Lets go of it here and now where that cannot take long, else on that thread. (Here, too, if there is no
  // thread to be had.)
  static void leaveTo(Threads& threads, Remains remains);
  // Lets go of it here and now, however long that takes.
  static void letGo(Remains remains);
  // Waits until all is let go of that was left to threads or is under way, at most so long. False if there is
  // nothing.
  static bool settle(std::chrono::milliseconds most);
};

// EINVAL is what the kernel makes of a TEE that is out of memory.
template <typename Answer>
bool lacksRoom(const Answer& answer) {
  if (answer.ok()) return false;
  const int error = answer.failure().error;
  return error == EINVAL || error == ENOMEM;
}

// A request for memory that may fail only because what was closed before is not let go of yet. It waits for
// that, under a second in all.
//
// It does not compete with that: when two callers wait for one of OP-TEE's threads, the kernel's driver can
// wake the wrong one up, which then is idle until a third call ends (drivers/tee/optee/call.c,
// optee_cq_complete_one: a caller that is in the TEE for long takes the wake-up). Hence also the retries:
// each of them wakes the other one up.
template <typename Request>
auto withRoom(Request request) {
  std::chrono::milliseconds wait(20);
  bool waited = Remains::settle(wait);
  auto answer = request();
  while (waited && lacksRoom(answer) && wait < std::chrono::milliseconds(320)) {
    waited = Remains::settle(wait *= 2);
    answer = request();
  }
  return answer;
}

// The same of a request of the TEE, whose room may be taken by temporary memory that no call uses.
template <typename Memory, typename Request>
auto withRoom(Memory& temporary, Request request) {
  auto answer = withRoom(request);
  if (lacksRoom(answer) && temporary.releaseIdle()) {
    Remains::settle(std::chrono::milliseconds(320));
    answer = request();
  }
  return answer;
}

// The thread for what belongs to no context. It is never destroyed: exit() may run while it works.
const std::shared_ptr<Threads>& reaper();

}  // namespace core
