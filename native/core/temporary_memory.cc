#include "temporary_memory.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "remains.h"

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

Result<std::unique_ptr<Slot>> TemporaryMemory::take(size_t bytes, uint64_t session) {
  const size_t size = sizeFor(bytes);
  std::unique_ptr<Slot> slot;
  Slots dropped;
  bool keep = false;
  {
    std::lock_guard<Lock> lock(mutex_);
    // The one used last is the likeliest to be in a cache; one of this session needs no zeroing.
    size_t found = idle_.size();
    for (size_t i = idle_.size(); i-- > 0;) {
      if (idle_[i]->size_ != size) continue;
      if (found == idle_.size()) found = i;
      if (idle_[i]->session_ == session) {
        found = i;
        break;
      }
    }
    if (found != idle_.size()) {
      slot = std::move(idle_[found]);
      idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(found));
    } else if (!cleared_ && size <= bound_) {
      keep = makeRoom(size, dropped);
      if (keep) {
        keptBytes_ += size;
        keptSlots_++;
      }
    }
  }
  drop(std::move(dropped));
  if (slot) {
    if (slot->session_ != session && slot->dirty_ != 0) {
      memset(slot->data(), 0, slot->dirty_);
      slot->dirty_ = 0;
    }
  } else {
    slot.reset(new Slot);
    slot->kept_ = keep;
    // One that is not kept need not be of any class.
    slot->size_ = keep ? size : wholePages(bytes);
    Failure failure;
    if (registration_) {
      Result<Mapping> pages = Mapping::ownPages(slot->size_);
      if (pages.ok()) {
        slot->mapping_ = std::move(pages.value());
      } else {
        failure = pages.failure();
      }
    } else {
      if (slot->size_ <= mostBytes()) slot->staging_.reset(new (std::nothrow) uint8_t[slot->size_]());
      if (!slot->staging_) failure = {Operation::shmAlloc, ENOMEM};
    }
    if (failure) {
      give(std::move(slot), false);
      return failure;
    }
  }
  slot->session_ = session;
  slot->used_ = bytes;
  return slot;
}

Failure TemporaryMemory::prepare(Slot& slot, int device) {
  if (slot.shm_.fd.valid()) return {};
  {
    std::lock_guard<Lock> lock(mutex_);
    registrations_++;
  }
  Result<TeeShm> shm = withRoom(*this, [&] {
    return registration_ ? shmRegister(device, slot.mapping_.data(), slot.size_)
                         : shmAlloc(device, slot.size_);
  });
  if (!shm.ok()) return shm.failure();
  // A later call may use all of it.
  if (shm.value().size < slot.size_) {
    return {registration_ ? Operation::shmRegister : Operation::shmAlloc, ENOMEM};
  }
  if (!registration_) {
    Result<Mapping> pages = Mapping::ofFile(shm.value().fd.get(), slot.size_);
    if (!pages.ok()) return pages.failure();
    memcpy(pages.value().data(), slot.staging_.get(), slot.used_);
    slot.mapping_ = std::move(pages.value());
    explicit_bzero(slot.staging_.get(), slot.used_);
    slot.staging_.reset();
  }
  slot.shm_ = std::move(shm.value());
  return {};
}

void TemporaryMemory::ended(Slot& slot) {
  if (!slot.kept_) slot.shm_.fd.reset();
}

void TemporaryMemory::give(std::unique_ptr<Slot> slot, bool wipe) {
  Slots dropped;
  // What was never registered may hold inputs all the same.
  slot->dirty_ = std::max(slot->dirty_, slot->used_);
  if (wipe && slot->data() != nullptr) {
    memset(slot->data(), 0, slot->dirty_);
    slot->dirty_ = 0;
  }
  {
    std::lock_guard<Lock> lock(mutex_);
    if (slot->kept_ && !cleared_ && slot->shm_.fd.valid()) {
      slot->idleSince_ = Clock::now();
      idle_.push_back(std::move(slot));
      trimLater();
      return;
    }
    if (slot->kept_) {
      keptBytes_ -= slot->size_;
      keptSlots_--;
    }
  }
  dropped.push_back(std::move(slot));
  drop(std::move(dropped));
}

// Drops nothing where that would not be enough.
bool TemporaryMemory::makeRoom(size_t bytes, Slots& dropped) {
  uint64_t idle = 0;
  for (const std::unique_ptr<Slot>& slot : idle_) idle += slot->size_;
  if (keptBytes_ - idle + bytes > bound_) return false;
  while (keptBytes_ + bytes > bound_) dropped.push_back(takeOldest());
  return true;
}

std::unique_ptr<Slot> TemporaryMemory::takeOldest() {
  std::unique_ptr<Slot> slot = std::move(idle_.front());
  idle_.erase(idle_.begin());
  keptBytes_ -= slot->size_;
  keptSlots_--;
  return slot;
}

TemporaryMemory::Slots TemporaryMemory::takeIdle() {
  Slots taken;
  while (!idle_.empty()) taken.push_back(takeOldest());
  return taken;
}

// The last reference to memory of the TEE's own can be its mapping.
Remains TemporaryMemory::remainsOf(Slot& slot) {
  return {nullptr, std::make_shared<Mapping>(std::move(slot.mapping_)), std::move(slot.shm_.fd)};
}

void TemporaryMemory::drop(Slots dropped) {
  for (std::unique_ptr<Slot>& slot : dropped) {
    if (!slot->shm_.fd.valid() && registration_) continue;
    Remains::leaveTo(*closer_, remainsOf(*slot));
  }
}

void TemporaryMemory::endHere(Slots dropped) {
  for (std::unique_ptr<Slot>& slot : dropped) Remains::letGo(remainsOf(*slot));
}

void TemporaryMemory::trimLater() {
  if (trimming_) return;
  auto* self = new std::shared_ptr<TemporaryMemory>(shared_from_this());
  auto run = [](void* what) {
    auto* memory = static_cast<std::shared_ptr<TemporaryMemory>*>(what);
    (*memory)->trim();
    delete memory;
  };
  trimming_ = closer_->postAt(idle_.front()->idleSince_ + kIdle, {run, self}) == 0;
  if (!trimming_) delete self;
}

void TemporaryMemory::trim() {
  Slots dropped;
  {
    std::lock_guard<Lock> lock(mutex_);
    trimming_ = false;
    const auto now = Clock::now();
    while (!idle_.empty() && idle_.front()->idleSince_ + kIdle <= now) dropped.push_back(takeOldest());
    if (!idle_.empty()) trimLater();
  }
  endHere(std::move(dropped));
}

bool TemporaryMemory::releaseIdle() {
  Slots dropped;
  {
    std::lock_guard<Lock> lock(mutex_);
    dropped = takeIdle();
  }
  const bool any = !dropped.empty();
  drop(std::move(dropped));
  return any;
}

void TemporaryMemory::clear() {
  Slots dropped;
  {
    std::lock_guard<Lock> lock(mutex_);
    cleared_ = true;
    dropped = takeIdle();
  }
  endHere(std::move(dropped));
}

TemporaryStatistics TemporaryMemory::statistics() {
  std::lock_guard<Lock> lock(mutex_);
  return {keptSlots_, keptBytes_, registrations_};
}

}  // namespace core
