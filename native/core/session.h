// A session that is open in the TEE, and the order of its calls: one at a time, as they came. OP-TEE would
// hold a thread for each that waits there, and its cancel flag is the session's, so the next call is held
// while a CANCEL is under way.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "call.h"

namespace core {

// All but the constants is guarded by the context's mutex.
class Session {
 public:
  Session(std::shared_ptr<Context> context, uint32_t id, uint64_t key)
      : context(std::move(context)), id(id), key(key) {}

  const std::shared_ptr<Context> context;
  const uint32_t id;   // the kernel's
  const uint64_t key;  // ours, never used again: whose bytes are in temporary memory

  // Its close has been queued: no call is taken any more.
  bool closed() const { return closed_; }

  // True if the call's turn has come at once: it has begun.
  bool push(const std::shared_ptr<Call>& call) {
    if (call->kind == Call::Kind::closeSession) closed_ = true;
    if (!current_ && !held_ && waiting_.empty()) {
      begin(call);
      return true;
    }
    call->place = waiting_.insert(waiting_.end(), call);
    return false;
  }

  // Begins the next call if its turn has come, else null.
  std::shared_ptr<Call> next() {
    if (current_ || held_ || waiting_.empty()) return nullptr;
    begin(std::move(waiting_.front()));
    waiting_.pop_front();
    return current_;
  }

  // Takes out a call that waits.
  void remove(const Call& call) { waiting_.erase(call.place); }

  // The current call is over.
  void advance() { current_.reset(); }

  bool isCurrent(const Call& call) const { return current_.get() == &call; }
  void hold() { held_ = true; }
  void unhold() { held_ = false; }

  // AnswerFlags of a call that got to the TEE. To be asked once for each. cancelSent: for this call.
  // cancelled: it ended with TEE_ERROR_CANCEL.
  uint32_t cancelFlags(bool cancelSent, bool cancelled) {
    const bool stale = stale_ && !cancelSent && cancelled;
    stale_ = cancelSent && !cancelled;
    return (stale ? AnswerFlags::staleCancel : 0u) | (stale_ ? AnswerFlags::cancelPending : 0u);
  }

  // The cancel of the call that ended last was not taken by the TEE.
  void forgetCancel() { stale_ = false; }

 private:
  void begin(std::shared_ptr<Call> call) {
    current_ = std::move(call);
    current_->begin();
  }

  std::list<std::shared_ptr<Call>> waiting_;
  std::shared_ptr<Call> current_;
  bool held_ = false;
  bool closed_ = false;
  bool stale_ = false;
};

}  // namespace core
