// Memory for the temporary buffers of calls that stays registered with the TEE, so that a call need not
// register it anew. OP-TEE maps whole pages, writable whatever the direction: so a slot is whole pages,
// serves one call at a time, each buffer in it begins a page, and it is zeroed before it serves another
// session.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "page_source.h"
#include "release.h"
#include "threads.h"

namespace core {

// One call's temporary buffers.
class Slot {
 public:
  uint8_t* data() const { return shared_.pages->data(); }
  int32_t id() const { return shared_.shm.id; }
  // Zeroes a part, so that an output shows nothing of an earlier call where the TA writes nothing.
  void zero(size_t offset, size_t length);

 private:
  friend class TemporaryMemory;

  SharedPages shared_;
  size_t size_ = 0;
  // How much of its beginning may be other than zero, and whose that is.
  size_t dirty_ = 0;
  size_t used_ = 0;
  uint64_t session_ = 0;
  bool kept_ = false;  // is it there for later calls, too
  Clock::time_point idleSince_;
};

struct TemporaryStatistics {
  size_t slots = 0;
  uint64_t bytes = 0;
  uint64_t registrations = 0;
};

class TemporaryMemory : public IdleMemory, public std::enable_shared_from_this<TemporaryMemory> {
 public:
  // bound: how many bytes are kept at most.
  TemporaryMemory(uint64_t bound, const PageSource& source)
      : bound_(bound - bound % pageSize()), source_(source) {}

  // A slot of at least that many bytes (whole pages) for a call of that session. Can block.
  Result<std::unique_ptr<Slot>> take(size_t bytes, uint64_t session, int device);
  // Takes it back.
  void give(std::unique_ptr<Slot> slot, bool wipe);
  // Pages for shared memory, from where its own come.
  Result<SharedPages> newPages(int device, uint64_t bytes) { return source_.newPages(device, bytes, *this); }
  bool releaseIdle() override;
  // The same, and keeps no more. Can block.
  void clear();
  TemporaryStatistics statistics();

  // The class of a size: the next power of two of pages.
  static size_t classOf(size_t bytes);

 private:
  using Slots = std::vector<std::unique_ptr<Slot>>;

  size_t sizeFor(size_t bytes) const;
  std::unique_ptr<Slot> takeIdle(size_t size, uint64_t session);
  // Reserves room for a slot to be kept. Drops nothing where that would not be enough.
  bool makeRoom(size_t bytes, Slots& dropped);
  void forget(const Slot& slot);
  std::unique_ptr<Slot> takeOldest();
  Slots takeAll();
  static Held heldBy(Slot& slot);
  void trimLater();
  void trim();

  const uint64_t bound_;  // whole pages, as all slots are
  const PageSource source_;
  std::mutex mutex_;
  std::condition_variable cleared_;
  // The longest idle first.
  Slots idle_;
  size_t keptSlots_ = 0;
  uint64_t keptBytes_ = 0;
  uint64_t registrations_ = 0;
  bool trimming_ = false;
  bool keepsNone_ = false;
};

}  // namespace core
