// What is left of a closed handle, for a thread that may block: the end of a registration waits for a free
// thread of the TEE.
#pragma once

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

  // (They are let go of here if there is no thread to be had.)
  static void leaveTo(Threads& threads, Remains remains);
};

// The thread for what belongs to no context. It is never destroyed: exit() may run while it works.
const std::shared_ptr<Threads>& reaper();

}  // namespace core
