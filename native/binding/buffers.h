// ArrayBuffers over pages that we map, and what becomes of the pages.
#pragma once

#include <napi.h>

#include <memory>
#include <unordered_map>

#include "../core/mapping.h"

namespace binding {

// A buffer is ours until we detach it. Its user can have moved it before (transfer(), postMessage()): then
// somebody else, maybe in another isolate, sees the pages, and they stay until nobody does. Node.js tells us
// of that as long as the environment that made the buffer is there. When that ends, pages that may have been
// moved stay for good.
class Buffers {
 public:
  // most: the longest ArrayBuffer that the runtime can make.
  explicit Buffers(double most) : most_(most) {}
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // The buffer over pages, the same one as long as it is alive. Undefined where the runtime makes none.
  Napi::Value of(Napi::Env env, const std::shared_ptr<core::Mapping>& pages, size_t length);
  // Detaches the buffer over pages, if there is one, and gives the pages back unless it was moved.
  void close(const std::shared_ptr<core::Mapping>& pages);
  // Detaches all buffers that were not moved, so that they cannot be any more; their pages stay.
  void detachAll();

 private:
  struct View;

  static void onFinalize(Napi::Env env, void* data, View* view);
  static bool detach(View& view);

  const double most_;
  std::unordered_map<const core::Mapping*, View*> views_;
};

}  // namespace binding
