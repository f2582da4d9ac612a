#include "buffers.h"

#include "../core/release.h"

namespace binding {

// One ArrayBuffer, until Node.js says that nobody sees its memory any more, or its environment ends.
struct Buffers::View {
  Buffers* buffers;
  std::shared_ptr<core::Mapping> pages;
  Napi::Reference<Napi::ArrayBuffer> buffer;  // weak
  bool closed = false;                        // detached by us, so never moved
  bool unknown = false;                       // whoever has it is not known any more

  // It is there, and was not moved.
  bool isOurs(Napi::Env env) const {
    const Napi::HandleScope scope(env);
    const Napi::ArrayBuffer value = buffer.Value();
    return !value.IsEmpty() && !value.IsDetached();
  }
};

Buffers::~Buffers() {
  for (auto& [pages, view] : views_) view->buffers = nullptr;
}

Napi::Value Buffers::of(Napi::Env env, const std::shared_ptr<core::Mapping>& pages, size_t length) {
  const auto found = views_.find(pages.get());
  if (found != views_.end()) {
    const Napi::ArrayBuffer buffer = found->second->buffer.Value();
    if (!buffer.IsEmpty()) return buffer;
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
  // Hooks run last in, first out, and Node.js has just added the one that gives this buffer up.
  if (!ending_.IsEmpty()) ending_.Remove(env);
  ending_ = env.AddCleanupHook(&Buffers::onEnding, this);
  return buffer;
}

void Buffers::close(Napi::Env env, const std::shared_ptr<core::Mapping>& pages) {
  const auto found = views_.find(pages.get());
  if (found == views_.end() || !found->second->isOurs(env)) return;
  found->second->closed = true;
  Napi::ArrayBuffer buffer = found->second->buffer.Value();
  // Threads of Node.js (zlib, fs, crypto) may be at work with the addresses; they hold the object.
  buffer.AddFinalizer([](Napi::Env, std::shared_ptr<core::Mapping>* held) { delete held; },
                      new std::shared_ptr<core::Mapping>(pages));
  buffer.Detach();
  pages->discard();
}

void Buffers::onFinalize(Napi::Env, void*, View* view) {
  if (view->buffers != nullptr) {
    const auto found = view->buffers->views_.find(view->pages.get());
    if (found != view->buffers->views_.end() && found->second == view) view->buffers->views_.erase(found);
  }
  if (view->unknown) {
    new std::shared_ptr<core::Mapping>(std::move(view->pages));
  } else {
    core::release({nullptr, std::move(view->pages), core::UniqueFd()});
  }
  delete view;
}

// The environment ends: Node.js is about to detach all buffers that are still in it, and to forget the
// others.
void Buffers::onEnding(Buffers* buffers) {
  for (auto& [pages, view] : buffers->views_) {
    view->unknown = !view->closed && !view->isOurs(view->buffer.Env());
  }
}

}  // namespace binding
