// Memory for the temporary buffers of calls that stays registered with the TEE, so that a call need not
// register it anew. OP-TEE maps whole pages, writable whatever the direction: so a slot is whole pages,
// serves one call at a time, each buffer in it begins a page, and it is zeroed before it serves another
// session.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "lock.h"
#include "mapping.h"
#include "tee.h"
#include "threads.h"

namespace core {

struct Remains;
class TemporaryMemory;

// One call's temporary buffers. Its bytes can be written at once; the TEE knows it after
// TemporaryMemory::prepare.
class Slot {
 public:
  uint8_t* data() const { return mapping_.size() != 0 ? mapping_.data() : staging_.get(); }
  int32_t id() const { return shm_.id; }
  // Is its registration there for later calls too?
  bool kept() const { return kept_; }
  // So that an output shows nothing of an earlier call where the TA writes nothing.
  void zero(size_t offset, size_t length);

 private:
  friend class TemporaryMemory;

  TeeShm shm_;
  Mapping mapping_;
  // Until there is memory of the TEE's own (SHM_ALLOC).
  std::unique_ptr<uint8_t[]> staging_;
  size_t size_ = 0;
  // How much of its beginning may be other than zero, and whose that is.
  size_t dirty_ = 0;
  size_t used_ = 0;
  uint64_t session_ = 0;
  bool kept_ = false;
  Clock::time_point idleSince_;
};

struct TemporaryStatistics {
  size_t slots = 0;
  uint64_t bytes = 0;
  uint64_t registrations = 0;
};

class TemporaryMemory : public std::enable_shared_from_this<TemporaryMemory> {
 public:
  // bound: how many bytes are kept at most. registration: SHM_REGISTER, else SHM_ALLOC.
  TemporaryMemory(uint64_t bound, bool registration, std::shared_ptr<Threads> closer)
      : bound_(bound - bound % pageSize()), registration_(registration), closer_(std::move(closer)) {}

  // A slot of at least that many bytes (whole pages) for a call of that session. Blocks no longer than
  // Remains::leaveTo, which it may need for idle slots.
  Result<std::unique_ptr<Slot>> take(size_t bytes, uint64_t session);
  // Makes the slot known to the TEE, if it is not yet. Can block.
  Failure prepare(Slot& slot, int device);
  // The call has ended, its outputs are still there: ends the registration of a slot that is not kept. Can
  // block.
  void ended(Slot& slot);
  // Takes it back. Blocks no longer than Remains::leaveTo.
  void give(std::unique_ptr<Slot> slot, bool wipe);
  // Lets go of all that no call uses: its room may be what another request lacks. False if there was nothing.
  // Blocks no longer than Remains::leaveTo.
  bool releaseIdle();
  // Ends all registrations that no call uses, and keeps no more. Can block.
  void clear();
  TemporaryStatistics statistics();

  // The class of a size: the next power of two of pages.
  static size_t classOf(size_t bytes);

 private:
  using Slots = std::vector<std::unique_ptr<Slot>>;

  size_t sizeFor(size_t bytes) const;
  // Out of idle_ and of what is kept.
  std::unique_ptr<Slot> takeOldest();
  Slots takeIdle();
  bool makeRoom(size_t bytes, Slots& dropped);
  static Remains remainsOf(Slot& slot);
  void drop(Slots dropped);
  // On a thread that may block.
  static void endHere(Slots dropped);
  void trimLater();
  void trim();

  const uint64_t bound_;  // whole pages, as all slots are
  const bool registration_;
  const std::shared_ptr<Threads> closer_;
  Lock mutex_;
  // The longest idle first.
  Slots idle_;
  size_t keptSlots_ = 0;
  uint64_t keptBytes_ = 0;
  uint64_t registrations_ = 0;
  bool trimming_ = false;
  bool cleared_ = false;
};

}  // namespace core
