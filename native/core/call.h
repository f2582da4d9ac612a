// One open, invoke or close, from its packet to its record.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "in_tee.h"
#include "result.h"
#include "shared_memory.h"
#include "tee.h"
#include "temporary_memory.h"
#include "unique_fd.h"

namespace core {

class Completions;
class Context;
class Session;

// The values of Status in lib/client/native.ts; a positive one is an errno.
namespace status {
constexpr int32_t kAnswered = 0;
constexpr int32_t kClosed = -1;
constexpr int32_t kArgument = -2;
constexpr int32_t kSharedMemoryClosed = -3;
constexpr int32_t kOtherContext = -4;
constexpr int32_t kOutOfBounds = -5;
}  // namespace status

namespace answer_flags {
constexpr uint32_t kCancelSent = 1;
constexpr uint32_t kStaleCancel = 2;
}  // namespace answer_flags

struct Parameter {
  enum class Memory : uint8_t { none, temporary, null, shared };

  uint64_t attr = uapi::kParamNone;  // TEE_IOCTL_PARAM_ATTR_TYPE_*
  Memory memory = Memory::none;
  // A value's a and b; a memref's offset (in its shared memory or in the slot) and size. a and b of an output
  // value, and the size of a memref, are what the TEE answered, once it has.
  uint64_t a = 0;
  uint64_t b = 0;
  uint64_t given = 0;  // a memref's size as it was asked
  bool own = false;    // a temporary buffer: its output goes into bytes of the caller's own
  std::shared_ptr<SharedMemory> shared;
};

struct Answer {
  int32_t status = status::kAnswered;
  uint32_t detail = 0;
  uint32_t result = 0;
  uint32_t origin = 0;
  uint32_t flags = 0;

  void fail(Failure failure) {
    status = failure.error;
    detail = static_cast<uint32_t>(failure.operation);
  }
};

struct Call {
  enum class Kind : uint8_t { open, invoke, closeSession, closeContext };
  enum class Caller : uint8_t { goesOn, waits };
  // queued: behind other calls. started: it is its turn. inFlight: in its ioctl. returned: from there.
  enum class State : uint8_t { queued, started, inFlight, returned, ended };

  // Every living call keeps its context from being closed (but for the one that waits for just that, and
  // opens that were given up).
  Call(Kind kind, std::shared_ptr<Context> context, Caller caller = Caller::goesOn);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Ends the use of shared memory, as soon as the TEE does not use it any more.
  void releaseShared();
  // May it take its time to let go of memory?
  bool holdsMemory() const;

  const Kind kind;
  // The thread that waits runs it itself.
  const bool sync;
  bool wipe = false;
  const std::shared_ptr<Context> context;
  uint64_t id = 0;      // unique
  uint32_t ticket = 0;  // what JavaScript knows it by
  uint32_t number = 0;  // command or login
  uint8_t uuid[16] = {};
  uint8_t client[16] = {};
  uint64_t sessionKey = 0;
  std::shared_ptr<UniqueFd> device;  // an open's, which may outlive the context's own
  std::shared_ptr<Session> session;  // an open's: what it opened
  uint32_t count = 0;                // of params
  Parameter params[kMaxParams];
  std::unique_ptr<Slot> slot;
  Answer answer;
  // Where it goes when it has ended; nowhere if nobody waits for it.
  std::shared_ptr<Completions> completions;

  // Guarded by the context's mutex.
  State state = State::queued;
  std::optional<InTee> inTee;
  bool abandoned = false;  // nobody waits any more: not to be begun, or an open to be undone
  bool counted = true;     // does the context's close wait for it
  bool cancelSent = false;
};

}  // namespace core
