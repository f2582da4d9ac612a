// An open device with its sessions, its threads and its temporary memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "call.h"
#include "session.h"

namespace core {

struct ContextStatistics {
  size_t sessions = 0;
  unsigned threads = 0;
  TemporaryStatistics temporary;
};

class Context : public std::enable_shared_from_this<Context> {
 public:
  static Result<std::shared_ptr<Context>> open(const char* path, unsigned threads, uint64_t temporaryBytes,
                                               bool registration);
  Context(UniqueFd fd, const uapi::tee_ioctl_version_data& version, unsigned threads, uint64_t temporaryBytes,
          bool registration);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const uapi::tee_ioctl_version_data& version() const { return version_; }
  TemporaryMemory& temporary() const { return *temporary_; }
  uint64_t newSessionKey() { return ++sessionKeys_; }
  ContextStatistics statistics();

  // Queues an asynchronous call. False if it was refused: then its answer says why, and it has no other end.
  bool start(const std::shared_ptr<Call>& call);
  // Runs a blocking call to its end, in its turn.
  void runSync(const std::shared_ptr<Call>& call);
  // Aborts an asynchronous open or invoke. requested: CANCEL goes out if the call is still in the TEE then.
  Aborted abort(const std::shared_ptr<Call>& call);
  // The same for all calls of an environment that ends, at once: none is sent any more, nor is CANCEL. Closes
  // of sessions are left alone.
  void drop(const std::vector<std::shared_ptr<Call>>& calls);

  // The device for something else than a call: close() waits until what this returns is gone. Null if it is
  // closing.
  std::shared_ptr<UniqueFd> use();

  // Closes sessions, memory and descriptor when all calls have ended; none are taken any more. An open that
  // was given up is not waited for, and has the device to itself until it ends. closed: is told then; null if
  // nobody waits.
  void close(std::shared_ptr<Job> closed);
  bool closing();

 private:
  friend class Call;

  using Guard = std::unique_lock<std::mutex>;

  bool accept(Call& call);
  void runTask(const std::shared_ptr<Call>& call);
  void queue(Guard& lock, const std::shared_ptr<Call>& call);
  void next(Guard& lock, Session& session);
  bool hand(Guard& lock, const std::shared_ptr<Call>& call);
  void perform(Guard& lock, Call& call);
  Failure send(Call& call);
  void opened(Call& call, uint32_t id);
  void finish(const std::shared_ptr<Call>& call);
  void sendCancel(const std::shared_ptr<Call>& call);
  Aborted takeBack(const std::shared_ptr<Call>& call);
  void releaseUse();

  const uapi::tee_ioctl_version_data version_;
  const std::shared_ptr<Threads> callers_;
  const std::shared_ptr<Threads> canceller_;
  const std::shared_ptr<TemporaryMemory> temporary_;
  std::atomic<uint64_t> sessionKeys_{0};

  std::mutex mutex_;
  // A blocking call waits for its turn.
  std::condition_variable turn_;
  std::shared_ptr<UniqueFd> device_;  // null when it is closed
  std::vector<std::shared_ptr<Session>> sessions_;
  // Calls and other work that close() waits for.
  size_t uses_ = 0;
  bool closing_ = false;
  std::shared_ptr<Job> closed_;
};

}  // namespace core
