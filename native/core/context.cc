#include "context.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "completions.h"

namespace core {

namespace {

constexpr uint32_t kTeeErrorCancel = 0xFFFF0002;
// How long a thread for calls may look out for the next one: about what JavaScript needs in the guest to take
// an answer and to make the next call.
constexpr Clock::duration kSpin = std::chrono::microseconds(200);

// What a call runs each time is hot, so that it lies on few pages (docs/performance.md).

// The kernel's parameters; how many there are up to the last that is used.
[[gnu::hot]] uint32_t pack(const Call& call, uapi::tee_ioctl_param* params) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& from = call.params[i];
    uapi::tee_ioctl_param& to = params[i];
    to = {from.attr, from.a, from.b, 0};
    switch (from.memory) {
      case Parameter::Memory::none:
        break;
      case Parameter::Memory::temporary:
        to.c = static_cast<uint64_t>(call.slot->id());
        break;
      case Parameter::Memory::null:
        to.c = uapi::kMemrefNull;
        break;
      case Parameter::Memory::shared:
        to.c = static_cast<uint64_t>(from.shared->id());
        break;
    }
    if (from.attr != uapi::kParamNone) count = i + 1;
  }
  return count;
}

[[gnu::hot]] void unpack(Call& call, const uapi::tee_ioctl_param* params, uint32_t result, uint32_t origin) {
  for (uint32_t i = 0; i < call.count; i++) {
    Parameter& to = call.params[i];
    if (to.memory == Parameter::Memory::none) to.a = params[i].a;
    to.b = params[i].b;
  }
  call.answer.result = result;
  call.answer.origin = origin;
}

}  // namespace

[[gnu::hot]] Call::Call(Kind kind, std::shared_ptr<Context> context, Caller caller)
    : kind(kind), sync(caller == Caller::waits), context(std::move(context)) {
  if (kind != Kind::closeContext) this->context->calls_++;
}

[[gnu::hot]] Call::~Call() {
  if (slot) context->temporary().give(std::move(slot), wipe);
  releaseShared();
  if (kind != Kind::closeContext && counted) context->callReleased();
}

bool Call::holdsMemory() const {
  if (slot && !slot->kept()) return true;
  return std::any_of(params, params + count, [](const Parameter& param) { return param.shared != nullptr; });
}

void Call::releaseShared() {
  for (uint32_t i = 0; i < count; i++) params[i].shared.reset();
}

Result<std::shared_ptr<Context>> Context::open(const char* path, unsigned threads, uint64_t temporaryBytes,
                                               bool registration) {
  Result<UniqueFd> fd = openFile(path, O_RDWR);
  if (!fd.ok()) return fd.failure();
  Result<uapi::tee_ioctl_version_data> version = core::version(fd.value().get());
  if (!version.ok()) return version.failure();
  return std::make_shared<Context>(std::move(fd.value()), version.value(), threads, temporaryBytes,
                                   registration);
}

Context::Context(UniqueFd fd, const uapi::tee_ioctl_version_data& version, unsigned threads,
                 uint64_t temporaryBytes, bool registration)
    : version_(version),
      registration_(registration && (version.gen_caps & uapi::kGenCapRegMem) != 0),
      callers_(std::make_shared<Threads>("optee-call", threads, kSpin)),
      canceller_(std::make_shared<Threads>("optee-cancel", 1)),
      closer_(std::make_shared<Threads>("optee-close", 1)),
      temporary_(std::make_shared<TemporaryMemory>(temporaryBytes, registration_, closer_)),
      device_(std::make_shared<UniqueFd>(std::move(fd))) {}

ContextStatistics Context::statistics() {
  ContextStatistics statistics;
  statistics.threads = callers_->alive();
  statistics.temporary = temporary_->statistics();
  std::lock_guard<Lock> lock(mutex_);
  statistics.sessions = sessions_.size();
  return statistics;
}

bool Context::closing() {
  std::lock_guard<Lock> lock(mutex_);
  return closing_;
}

[[gnu::hot]] bool Context::start(std::unique_ptr<Call>& call) {
  Orphans orphans;
  {
    std::lock_guard<Lock> lock(mutex_);
    if (closing_ || (call->kind == Call::Kind::invoke && call->session->queue.closed())) {
      call->answer.status = status::kClosed;
      return false;
    }
    if (call->kind == Call::Kind::open) {
      call->state = Call::State::started;
      call->inTee.emplace();
      call->device = device_;
      const int error = callers_->post({runTask, call.get()});
      if (error != 0) {
        call->inTee.reset();
        call->answer.fail({Operation::thread, error});
        return false;
      }
      opens_.push_back(call.release());
    } else {
      Session& session = *call->session;
      session.queue.push(call.release());
      pump(session, orphans, false);
    }
  }
  runOrphans(orphans);
  return true;
}

[[gnu::hot]] void Context::runSync(Call& call) {
  Orphans orphans;
  std::unique_lock<Lock> lock(mutex_);
  if (closing_ || (call.kind == Call::Kind::invoke && call.session->queue.closed())) {
    call.answer.status = status::kClosed;
    return;
  }
  if (call.kind == Call::Kind::open) {
    call.inTee.emplace();
    call.device = device_;
  } else if (!call.session->queue.begin(&call)) {
    call.session->queue.push(&call);
    turn_.wait(lock, [&call] { return call.state == Call::State::started; });
  }
  lock.unlock();
  if (begin(call)) execute(call);
  leaveTee(call);
  lock.lock();
  conclude(call);
  if (call.kind == Call::Kind::open) return;
  call.session->queue.advance();
  pump(*call.session, orphans, false);
  lock.unlock();
  runOrphans(orphans);
}

// Gives the session's next call its turn, if it has come. onCaller: a thread for calls does so, as its last
// deed.
[[gnu::hot]] void Context::pump(Session& session, Orphans& orphans, bool onCaller) {
  Call* next = session.queue.next();
  if (next == nullptr) return;
  if (next->sync) {
    turn_.notify_all();
  } else if (onCaller) {
    callers_->postNext({runTask, next});
  } else if (callers_->post({runTask, next}) != 0) {
    orphans.push_back(next);
  }
}

[[gnu::hot]] void Context::runTask(void* what) {
  std::unique_ptr<Call> call(static_cast<Call*>(what));
  const std::shared_ptr<Context> context = call->context;
  const std::shared_ptr<Session> session = context->run(std::move(call));
  if (session) context->advance(*session);
}

// Runs an asynchronous call to its end. Returns the session whose next call now has its turn, if it is one's.
[[gnu::hot]] std::shared_ptr<Session> Context::run(std::unique_ptr<Call> call) {
  if (begin(*call)) execute(*call);
  leaveTee(*call);
  {
    std::lock_guard<Lock> lock(mutex_);
    conclude(*call);
  }
  std::shared_ptr<Session> session = call->kind == Call::Kind::open ? nullptr : call->session;
  const std::shared_ptr<Completions> completions = call->abandoned ? nullptr : call->completions;
  // Before the next one begins: the calls of a session end in order for JavaScript too.
  if (completions) {
    completions->post(std::move(call));
  } else {
    call.reset();
  }
  return session;
}

[[gnu::hot]] void Context::advance(Session& session) {
  Orphans orphans;
  {
    std::lock_guard<Lock> lock(mutex_);
    session.queue.advance();
    pump(session, orphans, true);
  }
  runOrphans(orphans);
}

// Without any thread to be had, a close is done here, even if it blocks; other calls end with the errno.
void Context::runOrphans(Orphans& orphans) {
  for (size_t i = 0; i < orphans.size(); i++) {
    Call* orphan = orphans[i];
    if (orphan->kind != Call::Kind::closeSession) orphan->answer.fail({Operation::thread, EAGAIN});
    const std::shared_ptr<Session> session = run(std::unique_ptr<Call>(orphan));
    std::lock_guard<Lock> lock(mutex_);
    session->queue.advance();
    pump(*session, orphans, false);
  }
}

// What comes before the ioctl. False if there is nothing to be sent any more.
[[gnu::hot]] bool Context::begin(Call& call) {
  if (call.answer.status != status::kAnswered) return false;
  if (call.sync) {
    if (!call.slot) return true;
    Failure failure = temporary_->prepare(*call.slot, deviceOf(call));
    if (failure) call.answer.fail(failure);
    return !failure;
  }
  if (call.slot) {
    {
      std::lock_guard<Lock> lock(mutex_);
      if (call.abandoned) return false;
    }
    Failure failure = temporary_->prepare(*call.slot, deviceOf(call));
    if (failure) {
      call.answer.fail(failure);
      return false;
    }
  }
  std::lock_guard<Lock> lock(mutex_);
  if (call.abandoned) return false;
  call.state = Call::State::inFlight;
  return true;
}

int Context::deviceOf(const Call& call) const {
  return call.device ? call.device->get() : fd();
}

[[gnu::hot]] void Context::execute(Call& call) {
  Failure failure;
  switch (call.kind) {
    case Call::Kind::open: {
      OpenSessionMessage message{};
      memcpy(message.arg.uuid, call.uuid, sizeof(call.uuid));
      memcpy(message.arg.clnt_uuid, call.client, sizeof(call.client));
      message.arg.clnt_login = call.number;
      message.arg.num_params = pack(call, message.params);
      failure = openSession(deviceOf(call), message);
      if (!failure) {
        unpack(call, message.params, message.arg.ret, message.arg.ret_origin);
        if (message.arg.ret == 0) opened(call, message.arg.session);
      }
      break;
    }
    case Call::Kind::invoke: {
      InvokeMessage message{};
      message.arg.func = call.number;
      message.arg.session = call.session->id;
      message.arg.num_params = pack(call, message.params);
      failure = invoke(fd(), message);
      if (!failure) unpack(call, message.params, message.arg.ret, message.arg.ret_origin);
      break;
    }
    case Call::Kind::closeSession:
      failure = core::closeSession(fd(), call.session->id);
      break;
    case Call::Kind::closeContext:
      break;
  }
  if (failure) call.answer.fail(failure);
}

// A session has arrived: it is the caller's, or nobody's any more.
void Context::opened(Call& call, uint32_t id) {
  auto session = std::make_shared<Session>(shared_from_this(), id, call.sessionKey);
  {
    std::lock_guard<Lock> lock(mutex_);
    if (!call.abandoned && !closing_) {
      sessions_.push_back(session);
      call.session = std::move(session);
      forgetOpen(call);  // too late to abandon it
      return;
    }
  }
  core::closeSession(deviceOf(call), id);
  call.answer.status = status::kClosed;
}

// What can take its time after the ioctl. No CANCEL may be sent any more: it would hit the session's next
// call.
[[gnu::hot]] void Context::leaveTee(Call& call) {
  call.inTee.reset();
  if (!call.sync && call.holdsMemory()) {
    std::lock_guard<Lock> lock(mutex_);
    call.state = Call::State::returned;
  }
  call.releaseShared();
  if (call.slot) temporary_->ended(*call.slot);
}

// What comes after the ioctl under the lock, but for the next call's turn.
[[gnu::hot]] void Context::conclude(Call& call) {
  if (call.kind == Call::Kind::open) {
    call.state = Call::State::ended;
    forgetOpen(call);
    return;
  }
  Session& session = *call.session;
  if (call.kind == Call::Kind::closeSession) {
    sessions_.erase(std::find(sessions_.begin(), sessions_.end(), call.session));
  } else {
    const bool answered = call.answer.status == status::kAnswered && !call.abandoned;
    const bool cancelled = answered && call.answer.result == kTeeErrorCancel;
    if (call.cancelSent) call.answer.flags |= answer_flags::kCancelSent;
    if ((answered || call.cancelSent) && session.queue.staleCancel(call, cancelled)) {
      call.answer.flags |= answer_flags::kStaleCancel;
    }
  }
  session.queue.ended();
}

void Context::forgetOpen(const Call& call) {
  opens_.erase(std::remove(opens_.begin(), opens_.end(), &call), opens_.end());
}

Cancelled Context::cancel(uint64_t id) {
  std::unique_ptr<Call> removed;  // ends after the lock
  Orphans orphans;
  bool uncounted = false;
  auto cancelled = Cancelled::ended;
  {
    std::lock_guard<Lock> lock(mutex_);
    cancelled = cancelOpen(id, removed, uncounted);
    if (cancelled == Cancelled::ended) cancelled = cancelInvoke(id, removed, orphans);
  }
  runOrphans(orphans);
  if (uncounted) callReleased();
  return cancelled;
}

Cancelled Context::cancelOpen(uint64_t id, std::unique_ptr<Call>& removed, bool& uncounted) {
  for (Call* call : opens_) {
    if (call->id != id || call->abandoned) continue;
    if (callers_->remove(call)) {
      removed.reset(call);
      forgetOpen(*call);
    } else {
      call->abandoned = true;
      call->counted = false;  // it may wait for tee-supplicant, as long as that takes
      uncounted = true;
    }
    return Cancelled::removed;
  }
  return Cancelled::ended;
}

Cancelled Context::cancelInvoke(uint64_t id, std::unique_ptr<Call>& removed, Orphans& orphans) {
  for (const std::shared_ptr<Session>& session : sessions_) {
    removed.reset(session->queue.remove(id));
    if (removed) return Cancelled::removed;
    Call* current = session->queue.current();
    if (current == nullptr || current->id != id || current->kind != Call::Kind::invoke ||
        current->abandoned) {
      continue;
    }
    switch (current->state) {
      case Call::State::inFlight:
        return requestCancel(session, id);
      case Call::State::returned:
        return Cancelled::ended;
      default:
        break;
    }
    if (callers_->remove(current)) {
      removed.reset(current);
      session->queue.drop();
      pump(*session, orphans, false);
    } else {
      current->abandoned = true;
    }
    return Cancelled::removed;
  }
  return Cancelled::ended;
}

Cancelled Context::requestCancel(const std::shared_ptr<Session>& session, uint64_t id) {
  struct Cancelling {
    std::shared_ptr<Session> session;
    uint64_t id;
  };
  auto* cancelling = new Cancelling{session, id};
  auto run = [](void* what) {
    const std::unique_ptr<Cancelling> self(static_cast<Cancelling*>(what));
    self->session->context->sendCancel(*self->session, self->id);
  };
  if (canceller_->post({run, cancelling}) == 0) return Cancelled::requested;
  delete cancelling;
  return Cancelled::ended;
}

// CANCEL, if the call is still in its ioctl. The session's next call is held until it has returned, or it
// could be the one that is hit.
void Context::sendCancel(Session& session, uint64_t id) {
  {
    std::lock_guard<Lock> lock(mutex_);
    Call* current = session.queue.current();
    if (current == nullptr || current->id != id || current->state != Call::State::inFlight ||
        current->cancelSent) {
      return;
    }
    current->cancelSent = true;
    session.queue.hold();
  }
  const int error = core::cancel(fd(), session.id);
  Orphans orphans;
  {
    std::lock_guard<Lock> lock(mutex_);
    Call* current = session.queue.current();
    if (error != 0 && current != nullptr && current->id == id) current->cancelSent = false;
    session.queue.release();
    pump(session, orphans, false);
  }
  runOrphans(orphans);
}

bool Context::closeSession(Session& session, std::unique_ptr<Call> call) {
  Orphans orphans;
  {
    std::lock_guard<Lock> lock(mutex_);
    if (session.queue.closed()) return false;
    session.queue.close(call.release());
    pump(session, orphans, false);
  }
  runOrphans(orphans);
  return true;
}

void Context::close(std::unique_ptr<Call> call) {
  Orphans orphans;
  {
    std::lock_guard<Lock> lock(mutex_);
    if (closing_) return;
    closing_ = true;
    closeCall_ = std::move(call);
    closeSessions(orphans);
  }
  runOrphans(orphans);
  callReleased();
}

void Context::abandon() {
  std::vector<Call*> dropped;
  Orphans orphans;
  bool closedBefore;
  {
    std::lock_guard<Lock> lock(mutex_);
    closedBefore = closing_;
    closing_ = true;
    // What no thread has begun ends here: it may hold memory that the environment's end waits for.
    for (Call* call : std::vector<Call*>(opens_)) {
      call->abandoned = true;
      if (!callers_->remove(call)) continue;
      forgetOpen(*call);
      dropped.push_back(call);
    }
    for (const std::shared_ptr<Session>& session : sessions_) {
      session->queue.removeAll(dropped);
      Call* current = session->queue.current();
      if (current == nullptr || current->kind != Call::Kind::invoke ||
          current->state != Call::State::started) {
        continue;
      }
      current->abandoned = true;
      if (!callers_->remove(current)) continue;
      session->queue.drop();
      dropped.push_back(current);
    }
    closeSessions(orphans);
  }
  for (Call* call : dropped) delete call;
  runOrphans(orphans);
  if (!closedBefore) callReleased();
}

void Context::closeSessions(Orphans& orphans) {
  for (const std::shared_ptr<Session>& session : sessions_) {
    if (!session->queue.closed()) {
      auto call = std::make_unique<Call>(Call::Kind::closeSession, shared_from_this());
      call->session = session;
      session->queue.close(call.release());
    }
    // Also where it is closed already: the call that its close waited for may just have been dropped.
    pump(*session, orphans, false);
  }
}

// When the last call has ended, nothing uses the descriptor any more.
void Context::lastCallReleased() {
  {
    std::lock_guard<Lock> lock(mutex_);
    if (!closing_ || finalizing_ || calls_ != 0 || !sessions_.empty()) return;
    finalizing_ = true;
  }
  // Without anything that waits for its end no thread is needed.
  if (closer_->alive() == 0 && temporary_->statistics().slots == 0) return finalize();
  auto* self = new std::shared_ptr<Context>(shared_from_this());
  auto run = [](void* what) {
    const std::unique_ptr<std::shared_ptr<Context>> context(static_cast<std::shared_ptr<Context>*>(what));
    (*context)->finalize();
  };
  if (closer_->post({run, self}) != 0) run(self);
}

// Behind the ends of registrations that were left to this thread.
void Context::finalize() {
  temporary_->clear();
  device_.reset();
  std::unique_ptr<Call> call = std::move(closeCall_);
  if (call && call->completions) {
    const std::shared_ptr<Completions> completions = call->completions;
    completions->post(std::move(call));
  }
}

}  // namespace core
