#include "context.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace core {

namespace {

constexpr uint32_t kTeeErrorCancel = 0xFFFF0002;

}  // namespace

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
      callers_(std::make_shared<Threads>("optee-call", threads)),
      canceller_(std::make_shared<Threads>("optee-cancel", 1)),
      temporary_(std::make_shared<TemporaryMemory>(temporaryBytes, PageSource(version, registration))),
      device_(std::make_shared<UniqueFd>(std::move(fd))) {}

ContextStatistics Context::statistics() {
  ContextStatistics statistics;
  statistics.threads = callers_->alive();
  statistics.temporary = temporary_->statistics();
  Guard lock(mutex_);
  statistics.sessions = sessions_.size();
  return statistics;
}

bool Context::closing() {
  Guard lock(mutex_);
  return closing_;
}

bool Context::accept(Call& call) {
  if (closing_ || (call.kind != Call::Kind::open && call.session->closed())) {
    call.answer.refuse(Status::closed);
    return false;
  }
  call.device = device_;
  uses_++;
  return true;
}

bool Context::start(const std::shared_ptr<Call>& call) {
  if (Failure failure = call->keepInputs()) {
    call->answer.fail(failure);
    return false;
  }
  Guard lock(mutex_);
  if (!accept(*call)) return false;
  if (call->kind != Call::Kind::open) {
    queue(lock, call);
    return true;
  }
  call->begin();
  const int error = callers_->post(call);
  if (error == 0) return true;
  call->end();
  call->answer.fail({Operation::thread, error});
  uses_--;
  return false;
}

void Context::runSync(const std::shared_ptr<Call>& call) {
  Guard lock(mutex_);
  if (!accept(*call)) return;
  if (call->kind == Call::Kind::open) {
    call->begin();
  } else if (!call->session->push(call)) {
    turn_.wait(lock, [&call] { return call->state() != Call::State::queued; });
  }
  perform(lock, *call);
  finish(call);
  if (call->kind == Call::Kind::invoke) next(lock, *call->session);
}

void Context::runTask(const std::shared_ptr<Call>& call) {
  const std::shared_ptr<Context> self = shared_from_this();
  Guard lock(mutex_);
  perform(lock, *call);
  finish(call);
  if (call->kind != Call::Kind::open) next(lock, *call->session);
}

// Puts an asynchronous call into its session's queue.
void Context::queue(Guard& lock, const std::shared_ptr<Call>& call) {
  if (call->session->push(call) && !hand(lock, call)) next(lock, *call->session);
}

// Gives the session's next call its turn, if it has come.
void Context::next(Guard& lock, Session& session) {
  while (const std::shared_ptr<Call> call = session.next()) {
    if (hand(lock, call)) return;
  }
}

// Hands a call that has begun to the thread that performs it. False if there was none and it is over.
bool Context::hand(Guard& lock, const std::shared_ptr<Call>& call) {
  if (call->sync) {
    turn_.notify_all();
    return true;
  }
  const int error = callers_->post(call);
  if (error == 0) return true;
  // Without a thread a close is done here, although it may block; another call ends with the errno.
  if (call->kind != Call::Kind::closeSession) call->answer.fail({Operation::thread, error});
  perform(lock, *call);
  finish(call);
  return false;
}

// All of a call that can block, which is done without the lock.
void Context::perform(Guard& lock, Call& call) {
  if (call.answer.answered()) {
    Failure failure;
    if (call.hasTemporary()) {
      lock.unlock();
      failure = call.takeMemory();
      lock.lock();
    }
    if (!failure && call.enter()) {
      lock.unlock();
      failure = send(call);
      lock.lock();
      // No CANCEL may be sent any more: it would hit the session's next call.
      call.leave();
    }
    if (failure) call.answer.fail(failure);
  }
  if (call.sync) return;
  lock.unlock();
  call.giveMemory();
  lock.lock();
}

Failure Context::send(Call& call) {
  switch (call.kind) {
    case Call::Kind::open: {
      OpenSessionMessage message{};
      memcpy(message.arg.uuid, call.uuid, sizeof(call.uuid));
      memcpy(message.arg.clnt_uuid, call.client, sizeof(call.client));
      message.arg.clnt_login = call.number;
      call.toUapi(message.params, message.arg.num_params);
      const Failure failure = openSession(call.device->get(), message);
      if (failure) return failure;
      call.fromUapi(message.params, message.arg.ret, message.arg.ret_origin);
      if (message.arg.ret == 0) opened(call, message.arg.session);
      return {};
    }
    case Call::Kind::invoke: {
      InvokeMessage message{};
      message.arg.func = call.number;
      message.arg.session = call.session->id;
      call.toUapi(message.params, message.arg.num_params);
      const Failure failure = invoke(call.device->get(), message);
      if (!failure) call.fromUapi(message.params, message.arg.ret, message.arg.ret_origin);
      return failure;
    }
    case Call::Kind::closeSession:
      break;
  }
  return closeSession(call.device->get(), call.session->id);
}

// A session has arrived: it is the caller's, or nobody's any more.
void Context::opened(Call& call, uint32_t id) {
  {
    Guard lock(mutex_);
    if (!call.aborted() && !closing_) {
      call.leave();  // too late to abort it
      call.session = std::make_shared<Session>(shared_from_this(), id, call.sessionKey);
      sessions_.push_back(call.session);
      return;
    }
  }
  closeSession(call.device->get(), id);
  call.answer.refuse(Status::closed);
}

// Under the lock: the call has its answer.
void Context::finish(const std::shared_ptr<Call>& call) {
  if (call->kind == Call::Kind::closeSession) {
    sessions_.erase(std::find(sessions_.begin(), sessions_.end(), call->session));
  }
  const bool answered = call->answer.answered();
  if (call->kind == Call::Kind::invoke && call->state() == Call::State::returned &&
      (answered || call->cancelSent)) {
    const bool cancelled = answered && call->answer.result == kTeeErrorCancel;
    call->answer.flags = call->session->cancelFlags(call->cancelSent, cancelled);
  }
  const bool givenUp = call->state() == Call::State::givenUp;
  call->end();
  // It may be kept for long; the device is closed by its last user.
  call->device.reset();
  // The session's calls end in order for JavaScript, too.
  if (call->completions && !call->aborted()) call->completions->post(call);
  if (call->kind != Call::Kind::open && call->session->isCurrent(*call)) call->session->advance();
  if (!givenUp) releaseUse();
}

Aborted Context::abort(const std::shared_ptr<Call>& call) {
  {
    Guard lock(mutex_);
    const Aborted aborted = takeBack(call);
    if (aborted == Aborted::removed && call->kind == Call::Kind::invoke) next(lock, *call->session);
    if (aborted != Aborted::requested) return aborted;
  }
  const auto cancel = std::make_shared<FunctionTask>([call] { call->context->sendCancel(call); });
  // Without a thread for it, it is sent from here, although it may block: an abort is not lost.
  if (canceller_->post(cancel) != 0) cancel->run();
  return Aborted::requested;
}

void Context::drop(const std::vector<std::shared_ptr<Call>>& calls) {
  Guard lock(mutex_);
  for (const std::shared_ptr<Call>& call : calls) {
    if (call->kind != Call::Kind::closeSession) takeBack(call);
  }
  // What is left are closes, and next() may let go of the lock.
  for (const std::shared_ptr<Call>& call : calls) {
    if (call->kind == Call::Kind::invoke) next(lock, *call->session);
  }
}

// Aborts a call and undoes what it was waiting in. The turn of the session's next call may have come then.
Aborted Context::takeBack(const std::shared_ptr<Call>& call) {
  const Call::State before = call->state();
  const Aborted aborted = call->abort();
  if (aborted != Aborted::removed) return aborted;
  if (before == Call::State::queued) {
    call->session->remove(*call);
    releaseUse();
  } else if (before == Call::State::inTee) {
    releaseUse();  // it may wait for tee-supplicant, as long as that takes
  } else if (callers_->remove(*call)) {
    finish(call);
  }  // else the thread that has it finds out
  return aborted;
}

// CANCEL, if the call is still in its ioctl. The session's next call is held until it has returned, or it
// could be the one that is hit.
void Context::sendCancel(const std::shared_ptr<Call>& call) {
  const std::shared_ptr<Context> self = shared_from_this();
  Guard lock(mutex_);
  if (call->state() != Call::State::inTee || call->cancelSent) return;
  call->cancelSent = true;
  call->session->hold();
  std::shared_ptr<UniqueFd> device = call->device;
  lock.unlock();
  const int error = core::cancel(device->get(), call->session->id);
  device.reset();
  lock.lock();
  if (error != 0) {
    call->cancelSent = false;
    if (call->state() == Call::State::ended) call->session->forgetCancel();
  }
  call->session->unhold();
  next(lock, *call->session);
}

std::shared_ptr<UniqueFd> Context::use() {
  Guard lock(mutex_);
  if (closing_) return nullptr;
  uses_++;
  return {device_.get(), [self = shared_from_this(), device = device_](UniqueFd*) mutable {
            device.reset();
            Guard leaving(self->mutex_);
            self->releaseUse();
          }};
}

void Context::close(std::shared_ptr<Job> closed) {
  const std::shared_ptr<Context> self = shared_from_this();
  Guard lock(mutex_);
  if (closing_) return;
  closing_ = true;
  closed_ = std::move(closed);
  uses_++;
  for (const std::shared_ptr<Session>& session : std::vector<std::shared_ptr<Session>>(sessions_)) {
    if (session->closed()) continue;
    auto call = std::make_shared<Call>(Call::Kind::closeSession, self, false);
    call->session = session;
    call->device = device_;
    uses_++;
    queue(lock, call);
  }
  releaseUse();
}

// Under the lock. When nothing uses the device any more it is closed, behind the ends of registrations.
void Context::releaseUse() {
  if (--uses_ != 0 || !closing_) return;
  const auto finish = std::make_shared<FunctionTask>(
      [temporary = temporary_, device = std::move(device_), closed = std::move(closed_)]() mutable {
        temporary->clear();
        device.reset();
        // Its completions may have no other owner any more when this returns.
        if (closed) closed->completions->post(closed);
      });
  if (releaser()->post(finish) != 0) finish->run();
}

}  // namespace core
