#include "buffers.h"

#include "../core/release.h"
#include "client.h"

namespace binding {

// One ArrayBuffer, until Node.js says that nobody sees its memory any more, or its environment ends.
struct Buffers::View {
  Buffers* buffers;  // that know it; null when those have ended, or know another one over the same pages
  std::shared_ptr<core::Mapping> pages;
  Napi::Reference<Napi::ArrayBuffer> buffer;  // weak
  bool detached = false;                      // by us, so it was never moved
};

Buffers::~Buffers() {
  for (auto& [pages, view] : views_) view->buffers = nullptr;
}

Napi::Value Buffers::of(Napi::Env env, const std::shared_ptr<core::Mapping>& pages, size_t length) {
  const auto found = views_.find(pages.get());
  if (found != views_.end()) {
    const Napi::ArrayBuffer buffer = found->second->buffer.Value();
    if (!buffer.IsEmpty()) return buffer;
    found->second->buffers = nullptr;  // the new one takes its place
  }
  if (static_cast<double>(length) > most_) return env.Undefined();
  auto* view = new View{this, pages, {}};
  const auto buffer = Napi::ArrayBuffer::New(env, pages->data(), length, onFinalize, view);
  if (env.IsExceptionPending()) {
    env.GetAndClearPendingException();
    delete view;
    return env.Undefined();
  }
  view->buffer = Napi::Weak(buffer);
  views_[pages.get()] = view;
  return buffer;
}

// False if it was moved, or is not there any more.
bool Buffers::detach(View& view) {
  Napi::ArrayBuffer buffer = view.buffer.Value();
  if (buffer.IsEmpty() || buffer.IsDetached()) return false;
  // Threads of Node.js (zlib, fs, crypto) may be at work with the addresses; they hold the object.
  buffer.AddFinalizer([](Napi::Env, std::shared_ptr<core::Mapping>* held) { delete held; },
                      new std::shared_ptr<core::Mapping>(view.pages));
  view.detached = true;
  buffer.Detach();
  return true;
}

void Buffers::close(const std::shared_ptr<core::Mapping>& pages) {
  const auto found = views_.find(pages.get());
  if (found != views_.end() && (detach(*found->second) || found->second->detached)) pages->discard();
}

void Buffers::detachAll() {
  for (auto& [pages, view] : views_) detach(*view);
}

void Buffers::onFinalize(Napi::Env env, void*, View* view) {
  if (view->buffers != nullptr) view->buffers->views_.erase(view->pages.get());
  if (view->detached || !isEnding(env)) {
    core::release({nullptr, std::move(view->pages), core::UniqueFd()});
  } else {
    // Node.js gives up the buffers of an environment that ends, whoever has them now.
    new std::shared_ptr<core::Mapping>(std::move(view->pages));
  }
  delete view;
}

}  // namespace binding
