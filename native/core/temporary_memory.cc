#include "temporary_memory.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace core {

void Slot::zero(size_t offset, size_t length) {
  if (offset < dirty_) memset(data() + offset, 0, std::min(length, dirty_ - offset));
}

size_t TemporaryMemory::classOf(size_t bytes) {
  size_t size = pageSize();
  while (size < bytes) {
    if (size > SIZE_MAX / 2) return bytes;
    size *= 2;
  }
  return size;
}

// Of a slot that is kept: its class, or the whole bound where only the class is more than that.
size_t TemporaryMemory::sizeFor(size_t bytes) const {
  const size_t size = classOf(bytes);
  return size > bound_ && bytes <= bound_ ? static_cast<size_t>(bound_) : size;
}

Result<std::unique_ptr<Slot>> TemporaryMemory::take(size_t bytes, uint64_t session, int device) {
  const size_t size = sizeFor(bytes);
  Slots dropped;
  std::unique_ptr<Slot> slot;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    slot = takeIdle(size, session);
    if (!slot) {
      slot.reset(new Slot);
      slot->kept_ = !keepsNone_ && size <= bound_ && makeRoom(size, dropped);
      // One that is not kept need not be of any class.
      slot->size_ = slot->kept_ ? size : wholePages(bytes);
      registrations_++;
    }
  }
  for (std::unique_ptr<Slot>& old : dropped) release(heldBy(*old));
  if (!slot->shared_.pages) {
    auto made = newPages(device, slot->size_);
    if (!made.ok()) {
      std::lock_guard<std::mutex> lock(mutex_);
      forget(*slot);
      return made.failure();
    }
    slot->shared_ = std::move(made.value());
  } else if (slot->session_ != session && slot->dirty_ != 0) {
    memset(slot->data(), 0, slot->dirty_);
    slot->dirty_ = 0;
  }
  slot->session_ = session;
  slot->used_ = bytes;
  return slot;
}

// The one used last is the likeliest to be in a cache; one of this session needs no zeroing.
std::unique_ptr<Slot> TemporaryMemory::takeIdle(size_t size, uint64_t session) {
  auto found = idle_.end();
  for (auto at = idle_.begin(); at != idle_.end(); ++at) {
    if ((*at)->size_ != size) continue;
    if (found == idle_.end() || (*at)->session_ == session || (*found)->session_ != session) found = at;
  }
  if (found == idle_.end()) return nullptr;
  std::unique_ptr<Slot> slot = std::move(*found);
  idle_.erase(found);
  return slot;
}

void TemporaryMemory::give(std::unique_ptr<Slot> slot, bool wipe) {
  slot->dirty_ = std::max(slot->dirty_, slot->used_);
  if (wipe) {
    memset(slot->data(), 0, slot->dirty_);
    slot->dirty_ = 0;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (slot->kept_ && !keepsNone_) {
      slot->idleSince_ = Clock::now();
      idle_.push_back(std::move(slot));
      trimLater();
      return;
    }
    forget(*slot);
  }
  release(heldBy(*slot));
}

bool TemporaryMemory::makeRoom(size_t bytes, Slots& dropped) {
  uint64_t idle = 0;
  for (const std::unique_ptr<Slot>& slot : idle_) idle += slot->size_;
  if (keptBytes_ - idle + bytes > bound_) return false;
  while (keptBytes_ + bytes > bound_) dropped.push_back(takeOldest());
  keptBytes_ += bytes;
  keptSlots_++;
  return true;
}

void TemporaryMemory::forget(const Slot& slot) {
  if (!slot.kept_) return;
  keptBytes_ -= slot.size_;
  keptSlots_--;
}

std::unique_ptr<Slot> TemporaryMemory::takeOldest() {
  std::unique_ptr<Slot> slot = std::move(idle_.front());
  idle_.erase(idle_.begin());
  forget(*slot);
  return slot;
}

TemporaryMemory::Slots TemporaryMemory::takeAll() {
  Slots taken;
  while (!idle_.empty()) taken.push_back(takeOldest());
  return taken;
}

// The last reference to memory of the TEE's own can be its mapping.
Held TemporaryMemory::heldBy(Slot& slot) {
  return {nullptr, std::move(slot.shared_.pages), std::move(slot.shared_.shm.fd)};
}

void TemporaryMemory::trimLater() {
  if (trimming_) return;
  trimming_ = startThread("optee-trim", [self = shared_from_this()] { self->trim(); }) == 0;
}

// While there is idle memory.
void TemporaryMemory::trim() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!idle_.empty()) {
    const auto due = idle_.front()->idleSince_ + kIdle;
    if (Clock::now() < due) {
      cleared_.wait_until(lock, due);
      continue;
    }
    const std::unique_ptr<Slot> slot = takeOldest();
    lock.unlock();
    releaseHere(heldBy(*slot));
    lock.lock();
  }
  trimming_ = false;
}

bool TemporaryMemory::releaseIdle() {
  Slots dropped;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    dropped = takeAll();
  }
  for (std::unique_ptr<Slot>& slot : dropped) release(heldBy(*slot));
  return !dropped.empty();
}

void TemporaryMemory::clear() {
  Slots dropped;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    keepsNone_ = true;
    dropped = takeAll();
    cleared_.notify_all();
  }
  for (std::unique_ptr<Slot>& slot : dropped) releaseHere(heldBy(*slot));
}

TemporaryStatistics TemporaryMemory::statistics() {
  std::lock_guard<std::mutex> lock(mutex_);
  return {keptSlots_, keptBytes_, registrations_};
}

}  // namespace core
