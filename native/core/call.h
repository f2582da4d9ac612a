// One open, invoke or close, from its parameters to its answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "completions.h"
#include "release.h"
#include "shared_memory.h"
#include "tee.h"
#include "temporary_memory.h"

namespace core {

class Context;
class Session;

struct Parameter {
  ParamKind kind = ParamKind::none;
  // A value's a and b; a memref's offset (in its shared memory or in the slot) and size. Of outputs: what the
  // TEE answered, once it has.
  uint64_t a = 0;
  uint64_t b = 0;
  uint64_t room = 0;               // a memref's size as it was asked
  const uint8_t* input = nullptr;  // what a temporary buffer takes in, until the call has ended
  std::shared_ptr<SharedMemory> shared;

  uint32_t attr() const { return static_cast<uint32_t>(kind) & 7; }
  bool isValue() const { return attr() >= uapi::kParamValueInput && attr() <= uapi::kParamValueInout; }
  bool isIn() const { return attr() != uapi::kParamMemrefOutput && attr() != uapi::kParamValueOutput; }
  bool isOut() const { return attr() != uapi::kParamMemrefInput && attr() != uapi::kParamValueInput; }
  bool isTemporary() const { return attr() >= uapi::kParamMemrefInput && static_cast<uint32_t>(kind) < 0x10; }
  bool isShared() const { return static_cast<uint32_t>(kind) >= 0x20; }
  // As much of an output as there was room for; a TA can claim more.
  size_t written() const { return static_cast<size_t>(b < room ? b : room); }
};

// clang-format off
// A call's life. The context's mutex guards it.
//
//   state    | what it means                                    | next, and by which method
//   ---------|--------------------------------------------------|------------------------------------------
//   queued   | behind calls of its session, or just made        | begun: begin() · ended: abort()
//   begun    | it is its turn: a thread has it, or will         | inTee: enter() · ended: abort(), end()
//   inTee    | in its ioctl; CANCEL may be sent for an invoke   | returned: leave() · givenUp: abort() of an open
//   givenUp  | an open in its ioctl that nobody waits for       | ended: end()
//   returned | behind its ioctl                                 | ended: end()
//   ended    | it has its answer, or nobody waits for one       |
// clang-format on
class Call : public Job {
 public:
  enum class Kind : uint8_t { open, invoke, closeSession };
  enum class State : uint8_t { queued, begun, inTee, givenUp, returned, ended };

  // sync: the thread that makes it waits for it, and runs it itself.
  Call(Kind kind, std::shared_ptr<Context> context, bool sync)
      : kind(kind), sync(sync), context(std::move(context)) {}
  ~Call() override;

  void run() override;

  State state() const { return state_; }
  bool aborted() const { return aborted_; }
  void begin() {
    state_ = State::begun;
    inTee_.emplace();
  }
  // False if nothing is to be sent any more.
  bool enter() {
    if (state_ != State::begun) return false;
    state_ = State::inTee;
    return true;
  }
  void leave() {
    if (state_ == State::inTee) state_ = State::returned;
    inTee_.reset();
  }
  void end() {
    state_ = State::ended;
    inTee_.reset();
  }
  Aborted abort();

  // Copies what temporary buffers take in, which is then not the caller's any more.
  Failure keepInputs();
  bool hasTemporary() const;
  // Takes the memory that the TEE needs for temporary buffers. Can block.
  Failure takeMemory();
  // An asynchronous call keeps what came out and gives its memory back. (A blocking one, whose outputs are
  // read from there, goes at once.)
  void giveMemory();
  // The bytes that a temporary output has brought; null if there was no memory for them (or there are none).
  const uint8_t* output(const Parameter& param) const {
    const uint8_t* bytes = slot_ ? slot_->data() : kept_.get();
    return bytes == nullptr ? nullptr : bytes + param.a;
  }

  void toUapi(uapi::tee_ioctl_param* params, uint32_t& count) const;
  void fromUapi(const uapi::tee_ioctl_param* params, uint32_t result, uint32_t origin);

  const Kind kind;
  const bool sync;
  const std::shared_ptr<Context> context;
  bool wipe = false;
  uint32_t number = 0;  // command or login
  uint8_t uuid[16] = {};
  uint8_t client[16] = {};
  uint64_t sessionKey = 0;
  std::shared_ptr<UniqueFd> device;  // open as long as any call needs it
  std::shared_ptr<Session> session;  // an open's: what it opened
  uint32_t count = 0;                // of params
  Parameter params[kMaxParams];

  // Guarded by the context's mutex.
  bool cancelSent = false;
  // Of a queued invoke or close.
  std::list<std::shared_ptr<Call>>::iterator place;

 private:
  size_t layOut();
  // Frees what is kept, zeroed before where the call wants that, and keeps so many bytes. False without them.
  bool keep(size_t size);

  State state_ = State::queued;
  bool aborted_ = false;
  std::optional<InTee> inTee_;
  // An asynchronous call's bytes: first its inputs, then its outputs.
  std::unique_ptr<uint8_t[]> kept_;
  size_t keptSize_ = 0;
  std::unique_ptr<Slot> slot_;
};

}  // namespace core
