// The order of one session's calls: one at a time, as they came. OP-TEE would hold a thread for each that
// waits there, and its cancel flag is the session's, so the next call is held while a CANCEL is under way.
// Guarded by the context's mutex.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "call.h"

namespace core {

class SessionQueue {
 public:
  bool closed() const { return closed_; }
  Call* current() const { return current_; }

  void push(Call* call) { waiting_.push_back(call); }

  // The last call: its close.
  void close(Call* call) {
    closed_ = true;
    waiting_.push_back(call);
  }

  // Makes a call the current one if it need not wait.
  bool begin(Call* call) {
    if (busy_ || held_ || !waiting_.empty()) return false;
    start(call);
    return true;
  }

  // Makes the next call the current one if its turn has come, else null.
  Call* next() {
    if (busy_ || held_ || waiting_.empty()) return nullptr;
    start(waiting_.front());
    waiting_.pop_front();
    return current_;
  }

  // The current call is no longer to be touched here, the next one has to wait for advance().
  void ended() {
    current_->state = Call::State::ended;
    current_ = nullptr;
  }

  void advance() { busy_ = false; }

  // The current call will not be made after all.
  void drop() {
    current_ = nullptr;
    busy_ = false;
  }

  void hold() { held_ = true; }
  void release() { held_ = false; }

  // Takes out a waiting call, null if there is none of that id.
  Call* remove(uint64_t id) {
    auto found = std::find_if(waiting_.begin(), waiting_.end(), [id](Call* call) { return call->id == id; });
    if (found == waiting_.end() || (*found)->kind == Call::Kind::closeSession) return nullptr;
    Call* call = *found;
    waiting_.erase(found);
    return call;
  }

  // Takes out all that wait, but for the close.
  void removeAll(std::vector<Call*>& removed) {
    while (!waiting_.empty() && waiting_.front()->kind != Call::Kind::closeSession) {
      removed.push_back(waiting_.front());
      waiting_.pop_front();
    }
  }

  // Did the call end with a cancel that was meant for the one before? `cancelled`: it ended with
  // TEE_ERROR_CANCEL. To be asked once for each call that got to the TEE, before ended().
  bool staleCancel(const Call& call, bool cancelled) {
    const bool stale = stale_ && !call.cancelSent && cancelled;
    stale_ = call.cancelSent && !cancelled;
    return stale;
  }

 private:
  void start(Call* call) {
    busy_ = true;
    current_ = call;
    call->state = Call::State::started;
    call->inTee.emplace();
  }

  std::deque<Call*> waiting_;
  Call* current_ = nullptr;
  bool busy_ = false;
  bool held_ = false;
  bool closed_ = false;
  bool stale_ = false;
};

}  // namespace core
