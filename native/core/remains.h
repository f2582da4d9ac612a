// What is left of a closed handle. The end of a registration waits for a free thread of the TEE: as long as
// calls of this process are in the TEE it is left to a thread that may block.
#pragma once

#include <cerrno>
#include <memory>

#include "mapping.h"
#include "threads.h"
#include "unique_fd.h"

namespace core {

// Let go of in the order: descriptor, pages, keeper.
struct Remains {
  std::shared_ptr<void> keeper;
  std::shared_ptr<Mapping> pages;
  UniqueFd fd;

  // Lets go of it here and now where that cannot take long, else on that thread. (Here, too, if there is no
  // thread to be had.)
  static void leaveTo(Threads& threads, Remains remains);
  // Waits, for a second at most, until threads have let go of all that was left to them so far. False if
  // nothing was.
  static bool settle();
};

// A request for memory that may fail only because what was closed before is not let go of yet: then it is
// made a second time.
template <typename Request>
auto withRoom(Request request) {
  auto answer = request();
  if (answer.ok()) return answer;
  const int error = answer.failure().error;
  // EINVAL is what the kernel makes of a TEE that is out of memory.
  if ((error == EINVAL || error == ENOMEM) && Remains::settle()) return request();
  return answer;
}

// The thread for what belongs to no context. It is never destroyed: exit() may run while it works.
const std::shared_ptr<Threads>& reaper();

}  // namespace core
