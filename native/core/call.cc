#include "call.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "context.h"

namespace core {

Call::~Call() {
  keep(0);
  if (slot_) context->temporary().give(std::move(slot_), wipe);
}

void Call::run() {
  context->runTask(std::static_pointer_cast<Call>(shared_from_this()));
}

Aborted Call::abort() {
  if (aborted_) return Aborted::ended;
  switch (state_) {
    case State::queued:
    case State::begun:
      aborted_ = true;
      end();
      return Aborted::removed;
    case State::inTee:
      if (kind == Kind::invoke) return Aborted::requested;
      if (kind == Kind::closeSession) return Aborted::ended;
      aborted_ = true;
      state_ = State::givenUp;
      return Aborted::removed;
    default:
      return Aborted::ended;
  }
}

bool Call::hasTemporary() const {
  for (uint32_t i = 0; i < count; i++) {
    if (params[i].isTemporary()) return true;
  }
  return false;
}

// Each buffer begins a page, an empty one too: OP-TEE maps whole pages.
size_t Call::layOut() {
  size_t size = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (!params[i].isTemporary()) continue;
    params[i].a = size;
    size += wholePages(params[i].room);
  }
  return size;
}

bool Call::keep(size_t size) {
  if (wipe && kept_) explicit_bzero(kept_.get(), keptSize_);
  kept_.reset(size == 0 ? nullptr : new (std::nothrow) uint8_t[size]);
  keptSize_ = size;
  return kept_ != nullptr;
}

Failure Call::keepInputs() {
  size_t size = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (params[i].input != nullptr) size += params[i].room;
  }
  if (size == 0) return {};
  if (!keep(size)) return {Operation::malloc, ENOMEM};
  uint8_t* to = kept_.get();
  for (uint32_t i = 0; i < count; i++) {
    Parameter& param = params[i];
    if (param.input == nullptr) continue;
    memcpy(to, param.input, param.room);
    param.input = to;
    to += param.room;
  }
  return {};
}

Failure Call::takeMemory() {
  const size_t size = layOut();
  auto slot = context->temporary().take(size, sessionKey, device->get());
  if (!slot.ok()) return slot.failure();
  slot_ = std::move(slot.value());
  for (uint32_t i = 0; i < count; i++) {
    const Parameter& param = params[i];
    if (!param.isTemporary()) continue;
    if (param.input != nullptr) {
      memcpy(slot_->data() + param.a, param.input, param.room);
    } else {
      slot_->zero(param.a, param.room);
    }
  }
  return {};
}

void Call::giveMemory() {
  for (uint32_t i = 0; i < count; i++) params[i].shared.reset();
  if (!slot_) return;
  size_t size = 0;
  for (uint32_t i = 0; answer.answered() && i < count; i++) {
    if (params[i].isTemporary() && params[i].isOut()) size += params[i].written();
  }
  // Without memory for them the call has no outputs, which is told apart.
  const bool kept = keep(size);
  size = 0;
  for (uint32_t i = 0; kept && i < count; i++) {
    Parameter& param = params[i];
    if (!param.isTemporary() || !param.isOut()) continue;
    memcpy(kept_.get() + size, slot_->data() + param.a, param.written());
    param.a = size;
    size += param.written();
  }
  context->temporary().give(std::move(slot_), wipe);
}

void Call::toUapi(uapi::tee_ioctl_param* to, uint32_t& used) const {
  used = 0;
  for (uint32_t i = 0; i < count; i++) {
    const Parameter& from = params[i];
    uint64_t id = 0;
    if (from.isTemporary()) {
      id = static_cast<uint64_t>(slot_->id());
    } else if (from.isShared()) {
      id = static_cast<uint64_t>(from.shared->id());
    } else if (!from.isValue()) {
      id = uapi::kMemrefNull;
    }
    if (from.kind == ParamKind::none) continue;
    to[i] = {from.attr(), from.a, from.b, from.isValue() ? 0 : id};
    used = i + 1;
  }
}

void Call::fromUapi(const uapi::tee_ioctl_param* from, uint32_t result, uint32_t origin) {
  for (uint32_t i = 0; i < count; i++) {
    if (params[i].isValue()) params[i].a = from[i].a;
    params[i].b = from[i].b;
  }
  answer.result = result;
  answer.origin = origin;
}

}  // namespace core
