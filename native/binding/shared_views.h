// Views over SharedArrayBuffers that the TEE writes into. Their memory is the environment's, so each is held
// until its registration has ended, and the environment's end waits for that.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "../core/completions.h"

namespace binding {

class SharedViews {
 public:
  // The view is held until the last copy of what this returns is gone, which may be on any thread.
  std::shared_ptr<void> hold(Napi::Object view, const std::shared_ptr<core::Completions>& completions);
  // Lets go of those that are not needed any more.
  void sweep();
  // Waits until none is needed any more.
  void wait();

 private:
  struct View {
    Napi::ObjectReference reference;
    bool released = false;
  };
  struct Views {
    std::vector<std::unique_ptr<View>> all;  // only the environment's thread adds and takes
    std::mutex mutex;                        // guards the rest, and what `released` says
    std::condition_variable changed;
    size_t held = 0;
  };

  const std::shared_ptr<Views> views_ = std::make_shared<Views>();
};

}  // namespace binding
