// An open device with its sessions, its threads and its temporary memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "call.h"
#include "lock.h"
#include "session_queue.h"
#include "tee.h"
#include "temporary_memory.h"
#include "threads.h"

namespace core {

// A session that is open in the TEE. Its context holds it until CLOSE_SESSION has been sent.
class Session {
 public:
  Session(std::shared_ptr<Context> context, uint32_t id, uint64_t key)
      : context(std::move(context)), id(id), key(key) {}

  const std::shared_ptr<Context> context;
  const uint32_t id;   // the kernel's
  const uint64_t key;  // ours, never used again: whose bytes are in temporary memory
  SessionQueue queue;  // guarded by the context's mutex
};

// The values of Cancelled in lib/client/native.ts.
enum class Cancelled : uint8_t { ended, removed, requested };

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
  int fd() const { return device_ ? device_->get() : -1; }
  // SHM_REGISTER, where the TEE can and it was not switched off; else SHM_ALLOC.
  bool registration() const { return registration_; }
  const std::shared_ptr<Threads>& closer() const { return closer_; }
  TemporaryMemory& temporary() const { return *temporary_; }
  ContextStatistics statistics();

  // Starts an asynchronous open or invoke. False if it was refused: then the call has a status and is still
  // there.
  bool start(std::unique_ptr<Call>& call);
  // Runs an open or invoke whose caller waits to its end, in its turn.
  void runSync(Call& call);
  // Of an asynchronous open or invoke.
  Cancelled cancel(uint64_t id);
  // CLOSE_SESSION behind all calls that are queued; none are taken any more. False if it was closed before.
  bool closeSession(Session& session, std::unique_ptr<Call> call);
  // Closes sessions, memory and descriptor when all calls have ended; none are taken any more. An open that
  // was given up is not waited for, and has the device to itself until it ends.
  void close(std::unique_ptr<Call> call);
  // The same for an environment that ends: what has not begun is dropped, nobody waits for the rest.
  void abandon();
  bool closing();

  uint64_t newSessionKey() { return ++sessionKeys_; }

 private:
  friend struct Call;

  // Calls that no thread could be made for.
  using Orphans = std::vector<Call*>;

  void pump(Session& session, Orphans& orphans, bool onCaller);
  std::shared_ptr<Session> run(std::unique_ptr<Call> call);
  void runOrphans(Orphans& orphans);
  void execute(Call& call);
  int deviceOf(const Call& call) const;
  bool begin(Call& call);
  void leaveTee(Call& call);
  void conclude(Call& call);
  void advance(Session& session);
  void opened(Call& call, uint32_t session);
  void forgetOpen(const Call& call);
  Cancelled cancelOpen(uint64_t id, std::unique_ptr<Call>& removed, bool& uncounted);
  Cancelled cancelInvoke(uint64_t id, std::unique_ptr<Call>& removed, Orphans& orphans);
  Cancelled requestCancel(const std::shared_ptr<Session>& session, uint64_t id);
  void sendCancel(Session& session, uint64_t id);
  void closeSessions(Orphans& orphans);
  void callReleased() {
    if (--calls_ == 0) lastCallReleased();
  }
  void lastCallReleased();
  void finalize();

  static void runTask(void* call);

  const uapi::tee_ioctl_version_data version_;
  const bool registration_;
  const std::shared_ptr<Threads> callers_;
  const std::shared_ptr<Threads> canceller_;
  const std::shared_ptr<Threads> closer_;
  const std::shared_ptr<TemporaryMemory> temporary_;
  std::atomic<uint64_t> sessionKeys_{0};
  // Calls that live, and one for the context until it is closed.
  std::atomic<size_t> calls_{1};

  Lock mutex_;
  // A blocking call waits for its turn.
  std::condition_variable_any turn_;
  std::shared_ptr<UniqueFd> device_;  // let go of when no call is left
  std::vector<std::shared_ptr<Session>> sessions_;
  std::vector<Call*> opens_;  // asynchronous ones
  bool closing_ = false;
  bool finalizing_ = false;
  std::unique_ptr<Call> closeCall_;
};

}  // namespace core
