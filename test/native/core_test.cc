// The core without Node and without a TEE: order, closing, cancelling, temporary memory, threads. Meant for
// AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <random>

#include "../../native/core/completions.h"
#include "../../native/core/context.h"
#include "../../native/core/lock.h"
#include "../../native/core/shared_memory.h"
#include "executor.h"

using namespace core;
using Log = std::vector<std::string>;

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                  \
    }                                                                           \
  } while (false)

namespace {

// What the binding does: makes calls, and takes them when they have ended.
class User {
 public:
  explicit User(unsigned threads = 4, uint64_t bytes = 1 << 20)
      : completions_(std::make_shared<Completions>(onWake, this)) {
    context_ = std::move(Context::open("", threads, bytes, true).value());
  }

  // A thread may still be waking us up for what we have taken already.
  ~User() { completions_->close(); }

  const std::shared_ptr<Context>& context() const { return context_; }

  uint64_t invoke(const std::shared_ptr<Session>& session, uint32_t command, size_t bytes = 0) {
    auto call = make(Call::Kind::invoke);
    call->session = session;
    call->sessionKey = session->key;
    call->number = command;
    if (bytes != 0) {
      call->count = 1;
      call->params[0].attr = uapi::kParamMemrefInput;
      call->params[0].memory = Parameter::Memory::temporary;
      call->params[0].b = bytes;
      auto slot = context_->temporary().take(wholePages(bytes), session->key);
      CHECK(slot.ok());
      call->slot = std::move(slot.value());
      memset(call->slot->data(), 1, bytes);
    }
    return start(std::move(call));
  }

  uint64_t invoke(const std::shared_ptr<Session>& session, uint32_t command,
                  std::shared_ptr<SharedMemory> shared) {
    auto call = make(Call::Kind::invoke);
    call->session = session;
    call->number = command;
    call->count = 1;
    call->params[0].attr = uapi::kParamMemrefInput;
    call->params[0].memory = Parameter::Memory::shared;
    call->params[0].shared = std::move(shared);
    return start(std::move(call));
  }

  uint64_t open() {
    auto call = make(Call::Kind::open);
    call->sessionKey = context_->newSessionKey();
    return start(std::move(call));
  }

  std::shared_ptr<Session> openSync() {
    Call call(Call::Kind::open, context_, Call::Caller::waits);
    call.sessionKey = context_->newSessionKey();
    context_->runSync(call);
    CHECK(call.answer.status == status::kAnswered);
    return call.session;
  }

  Answer invokeSync(const std::shared_ptr<Session>& session, uint32_t command) {
    Call call(Call::Kind::invoke, context_, Call::Caller::waits);
    call.session = session;
    call.number = command;
    context_->runSync(call);
    return call.answer;
  }

  uint64_t close(const std::shared_ptr<Session>& session) {
    auto call = make(Call::Kind::closeSession);
    call->session = session;
    const uint64_t id = call->id;
    return context_->closeSession(*session, std::move(call)) ? id : 0;
  }

  uint64_t closeContext() {
    auto call = make(Call::Kind::closeContext);
    const uint64_t id = call->id;
    context_->close(std::move(call));
    return id;
  }

  // Waits for a call's end.
  Answer answer(uint64_t id) {
    for (;;) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        woken_ = false;
      }
      std::vector<std::unique_ptr<Call>> ended;
      completions_->take(ended);
      for (auto& call : ended) {
        order_.push_back(call->id);
        answers_[call->id] = call->answer;
        if (call->kind == Call::Kind::open) opened_[call->id] = call->session;
      }
      ended.clear();
      auto found = answers_.find(id);
      if (found != answers_.end()) return found->second;
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return woken_; });
    }
  }

  bool ended(uint64_t id) { return answers_.count(id) != 0; }
  std::shared_ptr<Session> opened(uint64_t id) {
    answer(id);
    return opened_[id];
  }
  const std::vector<uint64_t>& order() const { return order_; }
  void endEnvironment() {
    completions_->close();
    context_->abandon();
  }

 private:
  static void onWake(void* self) {
    auto* user = static_cast<User*>(self);
    std::lock_guard<std::mutex> lock(user->mutex_);
    user->woken_ = true;
    user->wake_.notify_all();
  }

  std::unique_ptr<Call> make(Call::Kind kind) {
    auto call = std::make_unique<Call>(kind, context_);
    call->id = ++ids_;
    call->completions = completions_;
    return call;
  }

  uint64_t start(std::unique_ptr<Call> call) {
    const uint64_t id = call->id;
    return context_->start(call) ? id : 0;
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
  std::shared_ptr<Completions> completions_;
  std::shared_ptr<Context> context_;
  std::map<uint64_t, Answer> answers_;
  std::map<uint64_t, std::shared_ptr<Session>> opened_;
  std::vector<uint64_t> order_;
  uint64_t ids_ = 0;
};

std::string invoked(const std::shared_ptr<Session>& session, uint32_t command) {
  return "invoke " + std::to_string(session->id) + " " + std::to_string(command);
}
std::string closed(const std::shared_ptr<Session>& session) {
  return "close " + std::to_string(session->id);
}

// Until something that another thread does has been done.
void eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 10000 && !condition(); i++) usleep(1000);
  CHECK(condition());
}

void callsOfASessionRunInOrder() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  std::vector<uint64_t> ids;
  Log expected;
  for (uint32_t i = 0; i < 50; i++) {
    ids.push_back(user.invoke(session, i));
    expected.push_back(invoked(session, i));
  }
  CHECK(user.invokeSync(session, 50).status == status::kAnswered);
  expected.push_back(invoked(session, 50));
  CHECK(executor::log() == expected);
  CHECK(executor::most() == 1);
  for (uint64_t id : ids) user.answer(id);
  CHECK(user.order() == ids);
  user.answer(user.closeContext());
}

void sessionsRunAtTheSameTimeUpToTheBound() {
  User user(3);
  std::vector<std::shared_ptr<Session>> sessions;
  for (int i = 0; i < 5; i++) sessions.push_back(user.openSync());
  executor::reset();
  std::vector<uint64_t> ids;
  for (const auto& session : sessions) ids.push_back(user.invoke(session, executor::kBlock));
  for (int i = 0; i < 3; i++) executor::waitFor(invoked(sessions[static_cast<size_t>(i)], executor::kBlock));
  CHECK(executor::log().size() == 3);
  CHECK(user.context()->statistics().threads == 3);
  executor::release();
  for (uint64_t id : ids) CHECK(user.answer(id).status == status::kAnswered);
  CHECK(executor::most() == 3);
  user.answer(user.closeContext());
}

void aQueuedCallIsCancelledWithoutBeingSent() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  const uint64_t first = user.invoke(session, executor::kBlock);
  executor::waitFor(invoked(session, executor::kBlock));
  const uint64_t second = user.invoke(session, 1);
  const uint64_t third = user.invoke(session, 2);
  CHECK(user.context()->cancel(second) == Cancelled::removed);
  CHECK(user.context()->cancel(second) == Cancelled::ended);
  executor::release();
  CHECK((user.answer(third).flags & answer_flags::kCancelSent) == 0);
  CHECK(user.ended(first) && !user.ended(second));
  CHECK((executor::log() == Log{invoked(session, executor::kBlock), invoked(session, 2)}));
  // Also behind a close.
  executor::reset();
  const uint64_t fourth = user.invoke(session, executor::kBlock);
  executor::waitFor(invoked(session, executor::kBlock));
  const uint64_t fifth = user.invoke(session, 3);
  const uint64_t close = user.close(session);
  CHECK(user.context()->cancel(fifth) == Cancelled::removed);
  executor::release();
  user.answer(close);
  CHECK(user.ended(fourth));
  user.answer(user.closeContext());
}

void aCallInFlightIsCancelledAndTheNextHeld() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  executor::blockCancel(true);
  const uint64_t first = user.invoke(session, executor::kBlockCancellable);
  executor::waitFor(invoked(session, executor::kBlockCancellable));
  const uint64_t second = user.invoke(session, 1);
  CHECK(user.context()->cancel(first) == Cancelled::requested);
  Answer answer = user.answer(first);
  CHECK(answer.result == executor::kCancelled);
  CHECK(answer.flags == answer_flags::kCancelSent);
  usleep(20000);
  const std::string cancel = "cancel " + std::to_string(session->id);
  const std::string cancelled = "cancelled " + std::to_string(session->id);
  CHECK((executor::log() == Log{invoked(session, executor::kBlockCancellable), cancel}));
  // A blocking call is held as well.
  auto blocking = std::async(std::launch::async, [&] { return user.invokeSync(session, 2); });
  usleep(20000);
  CHECK(executor::log().size() == 2);
  executor::blockCancel(false);
  CHECK(user.answer(second).flags == 0);
  CHECK(blocking.get().status == status::kAnswered);
  CHECK((executor::log() == Log{invoked(session, executor::kBlockCancellable), cancel, cancelled,
                                invoked(session, 1), invoked(session, 2)}));
  user.answer(user.closeContext());
}

void aCancelThatHitsTheNextCallIsToldApart() {
  User user;
  const auto session = user.openSync();
  SessionQueue queue;
  const auto end = [&](bool sent, bool cancelled) {
    Call call(Call::Kind::invoke, user.context());
    call.cancelSent = sent;
    return queue.staleCancel(call, cancelled);
  };
  CHECK(!end(false, true));  // a TA may answer so by itself
  CHECK(!end(true, true));   // it was heard
  CHECK(!end(false, true));
  CHECK(!end(true, false));  // it was not
  CHECK(end(false, true));
  CHECK(!end(false, true));
  CHECK(!end(true, false));
  CHECK(!end(false, false));  // any call's return takes the flag away
  CHECK(!end(false, true));
  CHECK(!end(true, false));
  CHECK(!end(true, true));  // it has a cancel of its own
  user.answer(user.closeContext());
}

void anAbandonedOpenIsClosedWhenItArrives() {
  User user;
  executor::reset();
  executor::blockOpen(true);
  const uint64_t id = user.open();
  eventually([] { return executor::log().size() == 1; });
  CHECK(user.context()->cancel(id) == Cancelled::removed);
  executor::blockOpen(false);
  eventually([] { return executor::log().size() == 2; });
  CHECK(executor::log()[1].rfind("close ", 0) == 0);
  user.answer(user.closeContext());
  CHECK(!user.ended(id));
}

void closingDoesNotWaitForAnAbandonedOpen() {
  std::weak_ptr<Context> left;
  executor::reset();
  executor::blockOpen(true);
  {
    User user;
    left = user.context();
    const uint64_t id = user.open();
    eventually([] { return executor::log().size() == 1; });
    const uint64_t close = user.closeContext();
    CHECK(user.context()->cancel(id) == Cancelled::removed);
    user.answer(close);
    CHECK(executor::log().size() == 1);
  }
  executor::blockOpen(false);
  // The session that arrives is closed on the device that is still open for it.
  eventually([&] { return left.expired(); });
  CHECK(executor::log().size() == 2 && executor::log()[1].rfind("close ", 0) == 0);
}

std::shared_ptr<SharedMemory> share(const User& user, std::shared_ptr<void> keeper) {
  static uint8_t bytes[16];
  auto shared = registerSharedMemory(user.context(), bytes, sizeof(bytes), std::move(keeper));
  CHECK(shared.ok());
  return shared.value();
}

void aCallThatWaitsForAThreadIsTakenBack() {
  executor::reset();
  std::weak_ptr<Context> left;
  std::weak_ptr<void> kept;
  {
    User user(1);
    left = user.context();
    const auto first = user.openSync(), second = user.openSync();
    const uint64_t blocked = user.invoke(first, executor::kBlock);
    executor::waitFor(invoked(first, executor::kBlock));
    const uint64_t waiting = user.invoke(second, 1);
    CHECK(user.context()->cancel(waiting) == Cancelled::removed);
    // Its turn is over, so a blocking call behind it need not wait for the thread.
    CHECK(user.invokeSync(second, 2).status == status::kAnswered);
    const uint64_t opening = user.open();
    CHECK(user.context()->cancel(opening) == Cancelled::removed);
    auto keeper = std::make_shared<int>();
    kept = keeper;
    user.invoke(second, 3, share(user, std::move(keeper)));
    user.endEnvironment();
    // The environment's end may wait for that memory, and must not wait for the call of another session.
    eventually([&] { return kept.expired(); });
    CHECK(!user.ended(blocked));
  }
  executor::release();
  eventually([&] { return left.expired(); });
  const Log log = executor::log();
  CHECK(std::count_if(log.begin(), log.end(), [](const auto& entry) { return entry[0] == 'i'; }) == 2);
}

void noCancelIsSentAfterTheIoctl() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  std::promise<void> letting, let;
  // The end of the call's shared memory takes its time.
  auto keeper = std::shared_ptr<void>(new int, [&](void* held) {
    delete static_cast<int*>(held);
    letting.set_value();
    let.get_future().wait();
  });
  const uint64_t id = user.invoke(session, 1, share(user, std::move(keeper)));
  letting.get_future().wait();
  CHECK(user.context()->cancel(id) == Cancelled::ended);
  let.set_value();
  CHECK(user.answer(id).flags == 0);
  for (const std::string& entry : executor::log()) CHECK(entry.rfind("cancel", 0) != 0);
  user.answer(user.closeContext());
}

void closingWaitsForWhatIsQueuedAndRefusesMore() {
  User user;
  const auto session = user.openSync();
  const auto other = user.openSync();
  executor::reset();
  const uint64_t first = user.invoke(session, executor::kBlock);
  const uint64_t second = user.invoke(session, 1, 4096);
  executor::waitFor(invoked(session, executor::kBlock));
  const uint64_t close = user.close(session);
  CHECK(close != 0 && user.close(session) == 0);
  CHECK(user.invoke(session, 2) == 0);
  CHECK(user.invokeSync(session, 2).status == status::kClosed);
  const uint64_t context = user.closeContext();
  CHECK(user.invoke(other, 2) == 0 && user.open() == 0);
  executor::waitFor(closed(other));
  CHECK(user.context()->fd() >= 0);
  executor::release();
  user.answer(context);
  CHECK((user.order() == std::vector<uint64_t>{first, second, close, context}));
  CHECK((executor::log().size() == 5 && executor::log().back() == closed(session)));
  CHECK(user.context()->fd() < 0);
  CHECK(user.context()->statistics().sessions == 0);
  CHECK(user.context()->statistics().temporary.slots == 0);
}

void anOpenThatArrivesInAClosingContextIsClosed() {
  User user;
  executor::reset();
  executor::blockOpen(true);
  const uint64_t id = user.open();
  eventually([] { return executor::log().size() == 1; });
  const uint64_t context = user.closeContext();
  executor::blockOpen(false);
  CHECK(user.answer(id).status == status::kClosed);
  user.answer(context);
  CHECK(executor::log().back().rfind("close ", 0) == 0);
}

void anEnvironmentsEndDropsWhatHasNotBegun() {
  std::weak_ptr<Context> left;
  std::weak_ptr<Session> leftSession;
  executor::reset();
  {
    User user;
    const auto session = user.openSync();
    left = user.context();
    leftSession = session;
    user.invoke(session, executor::kBlock, 5000);
    user.invoke(session, 1, 5000);
    executor::waitFor(invoked(session, executor::kBlock));
    user.endEnvironment();
  }
  CHECK(!left.expired());
  executor::release();
  eventually([&] { return left.expired() && leftSession.expired(); });
  const Log log = executor::log();
  CHECK(log.back().rfind("close ", 0) == 0);
  for (const std::string& entry : log) CHECK(entry.rfind("invoke", 0) != 0 || entry.back() == '0');
}

void anEnvironmentsEndClosesASessionWhoseLastCallHasNoThreadYet() {
  std::weak_ptr<Context> left;
  executor::reset();
  std::string close;
  {
    User user(1);
    left = user.context();
    const auto first = user.openSync(), second = user.openSync();
    close = closed(second);
    user.invoke(first, executor::kBlock);
    executor::waitFor(invoked(first, executor::kBlock));
    user.invoke(second, 1);
    CHECK(user.close(second) != 0);
    user.endEnvironment();
  }
  executor::release();
  eventually([&] { return left.expired(); });
  const Log log = executor::log();
  CHECK(std::count(log.begin(), log.end(), close) == 1);
}

void temporaryMemoryIsReusedBoundedAndClean() {
  const size_t page = pageSize();
  CHECK(TemporaryMemory::classOf(1) == page);
  CHECK(TemporaryMemory::classOf(page) == page);
  CHECK(TemporaryMemory::classOf(page + 1) == 2 * page);
  CHECK(TemporaryMemory::classOf(5 * page) == 8 * page);
  CHECK(TemporaryMemory::classOf(SIZE_MAX) == SIZE_MAX);
  CHECK(wholePages(0) == page && wholePages(UINT64_MAX) == 0);

  auto memory = std::make_shared<TemporaryMemory>(8 * page, true, std::make_shared<Threads>("close", 1));
  const auto take = [&](size_t bytes, uint64_t session) {
    auto slot = memory->take(bytes, session);
    CHECK(slot.ok());
    return std::move(slot.value());
  };
  const auto use = [&](std::unique_ptr<Slot> slot, size_t bytes, bool wipe) {
    CHECK(!memory->prepare(*slot, 0));
    memset(slot->data(), 7, bytes);
    memory->ended(*slot);
    memory->give(std::move(slot), wipe);
  };
  use(take(2 * page, 1), 2 * page, false);
  CHECK(memory->statistics().slots == 1 && memory->statistics().bytes == 2 * page);

  auto again = take(2 * page, 1);  // the same session finds it as it was, but where it asks for an output
  CHECK(again->data()[0] == 7 && again->data()[2 * page - 1] == 7);
  again->zero(page, 10);
  CHECK(again->data()[page] == 0 && again->data()[page + 9] == 0 && again->data()[page + 10] == 7);
  use(std::move(again), 2 * page, false);
  CHECK(memory->statistics().registrations == 1);

  auto other = take(2 * page, 2);  // another one does not
  for (size_t i = 0; i < 2 * page; i++) CHECK(other->data()[i] == 0);
  use(std::move(other), 2 * page, true);
  auto wiped = take(2 * page, 2);
  for (size_t i = 0; i < 2 * page; i++) CHECK(wiped->data()[i] == 0);

  // One that is in use is not another call's.
  auto second = take(2 * page, 2);
  CHECK(second->data() != wiped->data());
  use(std::move(second), 1, false);
  use(std::move(wiped), 1, false);
  CHECK(memory->statistics().slots == 2);

  use(take(8 * page, 1), 1, false);  // needs all the room that there is
  CHECK(memory->statistics().slots == 1 && memory->statistics().bytes == 8 * page);
  auto large = take(9 * page, 1);  // more than all
  use(std::move(large), 9 * page, false);
  CHECK(memory->statistics().slots == 1 && memory->statistics().bytes == 8 * page);
  auto busy = take(8 * page, 1);
  use(take(page, 1), 1, false);  // no room beside the one in use
  CHECK(memory->statistics().slots == 1);
  memory->clear();
  memory->give(std::move(busy), false);
  CHECK(memory->statistics().slots == 0 && memory->statistics().bytes == 0);
  CHECK(!memory->take(SIZE_MAX / 2, 1).ok());
}

void temporaryMemoryGivesWayOnlyWhereThatHelps() {
  const size_t page = pageSize();
  auto memory = std::make_shared<TemporaryMemory>(6 * page, true, std::make_shared<Threads>("close", 1));
  const auto take = [&](size_t bytes) {
    auto slot = memory->take(bytes, 1);
    CHECK(slot.ok() && !memory->prepare(*slot.value(), 0));
    return std::move(slot.value());
  };
  const auto give = [&](std::unique_ptr<Slot> slot) {
    memory->ended(*slot);
    memory->give(std::move(slot), false);
  };
  // Its class would be eight pages, more than the bound.
  give(take(5 * page));
  CHECK(memory->statistics().bytes == 6 * page);
  give(take(6 * page));
  CHECK(memory->statistics().registrations == 1);

  auto busy = take(4 * page);  // the idle one goes
  CHECK(memory->statistics().slots == 1 && memory->statistics().bytes == 4 * page);
  give(take(page));
  CHECK(memory->statistics().slots == 2 && memory->statistics().registrations == 3);
  give(take(5 * page));  // no room beside the one in use, and the idle one would not make it
  CHECK(memory->statistics().slots == 2);
  give(take(page));
  CHECK(memory->statistics().registrations == 4);

  CHECK(memory->releaseIdle() && memory->statistics().slots == 1 && !memory->releaseIdle());
  give(std::move(busy));
  CHECK(memory->statistics().slots == 1 && memory->statistics().bytes == 4 * page);
  CHECK(memory->releaseIdle() && memory->statistics().bytes == 0);
}

void idleTemporaryMemoryMakesRoomForARegistration() {
  User user;
  executor::reset();
  const auto session = user.openSync();
  const auto slots = [&] { return user.context()->statistics().temporary.slots; };
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == status::kAnswered && slots() == 1);
  executor::refuseRegistrations(1);
  CHECK(allocSharedMemory(user.context(), 100).ok() && slots() == 0);
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == status::kAnswered && slots() == 1);
  executor::refuseRegistrations(1);
  CHECK(user.answer(user.invoke(session, 1, 20000)).status == status::kAnswered && slots() == 1);
  CHECK(user.context()->temporary().releaseIdle());
  executor::refuseRegistrations(1);  // nothing is left that could go
  CHECK(!allocSharedMemory(user.context(), 100).ok());
  user.answer(user.closeContext());
}

void aShorterRegistrationIsUsedOnlyAsFarAsItGoes() {
  User user;
  executor::reset();
  executor::limitRegistrations(10);
  const auto shared = share(user, nullptr);
  CHECK(shared->size() == 10 && shared->contains(0, 10) && !shared->contains(0, 11) &&
        !shared->contains(11, 0));
  auto allocated = allocSharedMemory(user.context(), 100);
  CHECK(allocated.ok() && allocated.value()->size() == 10);
  // A buffer of a call has no use for half of it.
  const auto session = user.openSync();
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == ENOMEM);
  executor::limitRegistrations(UINT64_MAX);
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == status::kAnswered);
  user.answer(user.closeContext());
}

// A task that keeps the thread for ends of registrations busy until it is let go of.
class Obstacle {
 public:
  explicit Obstacle(const std::shared_ptr<Threads>& threads) {
    CHECK(threads->post({run, new std::future<void>(gone_.get_future())}) == 0);
  }
  void remove() { gone_.set_value(); }

 private:
  static void run(void* gone) {
    std::unique_ptr<std::future<void>>(static_cast<std::future<void>*>(gone))->wait();
  }

  std::promise<void> gone_;
};

void memoryClosedBesideACallIsLeftToAThread() {
  User user;
  const auto session = user.openSync();
  uint8_t bytes[16];
  std::weak_ptr<void> kept;
  const auto add = [&] {
    auto keeper = std::make_shared<int>();
    kept = keeper;
    return registerSharedMemory(user.context(), bytes, sizeof(bytes), std::move(keeper));
  };
  const auto registered = [] { return executor::log().size(); };

  add();
  CHECK(kept.expired());  // no call in the TEE: at once
  executor::reset();
  executor::refuseRegistrations(1);
  CHECK(!add().ok());  // nothing is left that could make room
  CHECK(registered() == 1);

  const uint64_t call = user.invoke(session, executor::kBlock);
  executor::waitFor(invoked(session, executor::kBlock));
  Obstacle first(user.context()->closer());
  add();
  CHECK(!kept.expired());
  const size_t before = registered();
  executor::refuseRegistrations(2);
  CHECK(add().ok());  // is tried again, and closed at once
  CHECK(registered() == before + 3);
  executor::refuseRegistrations(100);
  const auto refused = add();
  CHECK(!refused.ok() && refused.failure().error == ENOMEM);  // not for ever
  executor::refuseRegistrations(0);
  executor::release();
  user.answer(call);
  first.remove();
  add();
  eventually([&] { return kept.expired(); });
  user.answer(user.closeContext());
}

// From its turn on: a call that waits for its thread is about to be in the TEE.
void aCallThatHasItsTurnCounts() {
  User user(1);
  const auto first = user.openSync(), second = user.openSync();
  executor::reset();
  CHECK(!InTee::any());
  const uint64_t blocked = user.invoke(first, executor::kBlock);
  CHECK(InTee::any());
  const uint64_t waiting = user.invoke(second, 1);
  executor::release();
  user.answer(blocked);
  user.answer(waiting);
  CHECK(!InTee::any());
  user.invokeSync(first, 2);
  CHECK(!InTee::any());
  user.answer(user.closeContext());
  CHECK(!InTee::any());
}

void idleMemoryAndThreadsGo() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  user.answer(user.invoke(session, 1, 4096));
  CHECK(user.context()->statistics().temporary.slots == 1 && user.context()->statistics().threads == 1);
  eventually([&] {
    const ContextStatistics now = user.context()->statistics();
    return now.temporary.slots == 0 && now.threads == 0;
  });
  CHECK(user.answer(user.invoke(session, 2, 4096)).status == status::kAnswered);
  user.answer(user.closeContext());
}

// Few tasks now and then keep one thread, not all that were needed once.
void threadsThatAreNotNeededGo() {
  auto threads = std::make_shared<Threads>("few", 4);
  {
    std::vector<std::unique_ptr<Obstacle>> burst;
    for (int i = 0; i < 4; i++) burst.push_back(std::make_unique<Obstacle>(threads));
    eventually([&] { return threads->alive() == 4; });
    for (const auto& each : burst) each->remove();
  }
  const Task nothing{[](void*) {}, nullptr};
  for (int i = 0; i < 100 && threads->alive() > 1; i++) {
    CHECK(threads->post(nothing) == 0);
    usleep(100000);
  }
  CHECK(threads->alive() == 1);
}

// One at a time, none waits for ever, and who has it last may end it.
void aLockIsHeldByOne() {
  constexpr unsigned kThreads = 4, kTimes = 20000;
  for (int round = 0; round < 5; round++) {
    auto* lock = new Lock;
    unsigned held = 0, left = kThreads;
    std::vector<std::future<void>> holders;
    for (unsigned i = 0; i < kThreads; i++) {
      holders.push_back(std::async(std::launch::async, [&] {
        for (unsigned k = 0; k < kTimes; k++) {
          std::lock_guard<Lock> guard(*lock);
          held++;
          if (k % 1000 == 0) usleep(10);
        }
        bool last;
        {
          std::lock_guard<Lock> guard(*lock);
          last = --left == 0;
        }
        if (last) delete lock;
      }));
    }
    for (auto& holder : holders) holder.get();
    CHECK(held == kThreads * kTimes);
  }
}

// Everything at once, in an order that a seed decides: nothing may be lost, and nothing done twice.
void anythingGoes(unsigned seed, std::weak_ptr<Context>& left) {
  std::mt19937 random(seed);
  executor::reset();
  executor::release();
  User user(1 + random() % 4, random() % 3 * 40960);
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<uint64_t> pending;
  left = user.context();
  for (int i = 0; i < 4; i++) sessions.push_back(user.openSync());
  for (int i = 0; i < 400; i++) {
    const auto session = sessions[random() % sessions.size()];
    switch (random() % 10) {
      case 0:
        user.invokeSync(session, 1);
        break;
      case 1:
        if (!pending.empty()) {
          const size_t at = random() % pending.size();
          if (user.context()->cancel(pending[at]) == Cancelled::removed) {
            pending.erase(pending.begin() + static_cast<ptrdiff_t>(at));
          }
        }
        break;
      case 2:
        if (random() % 5 == 0) {
          pending.push_back(user.close(session));
          sessions[static_cast<size_t>(std::find(sessions.begin(), sessions.end(), session) -
                                       sessions.begin())] = user.openSync();
        }
        break;
      case 3:
        pending.push_back(user.open());
        break;
      default:
        pending.push_back(user.invoke(session, random() % 2 == 0 ? executor::kBlock : 1, random() % 20000));
    }
  }
  if (seed % 2 == 0) {
    user.endEnvironment();
    return;
  }
  const uint64_t close = user.closeContext();
  for (uint64_t id : pending) user.answer(id);
  user.answer(close);
  CHECK(user.order().back() == close);
}

}  // namespace

int main(int argc, char**) {
  callsOfASessionRunInOrder();
  sessionsRunAtTheSameTimeUpToTheBound();
  aQueuedCallIsCancelledWithoutBeingSent();
  aCallInFlightIsCancelledAndTheNextHeld();
  aCancelThatHitsTheNextCallIsToldApart();
  anAbandonedOpenIsClosedWhenItArrives();
  closingDoesNotWaitForAnAbandonedOpen();
  aCallThatWaitsForAThreadIsTakenBack();
  noCancelIsSentAfterTheIoctl();
  closingWaitsForWhatIsQueuedAndRefusesMore();
  anOpenThatArrivesInAClosingContextIsClosed();
  anEnvironmentsEndDropsWhatHasNotBegun();
  anEnvironmentsEndClosesASessionWhoseLastCallHasNoThreadYet();
  temporaryMemoryIsReusedBoundedAndClean();
  temporaryMemoryGivesWayOnlyWhereThatHelps();
  idleTemporaryMemoryMakesRoomForARegistration();
  aShorterRegistrationIsUsedOnlyAsFarAsItGoes();
  memoryClosedBesideACallIsLeftToAThread();
  aCallThatHasItsTurnCounts();
  aLockIsHeldByOne();
  for (unsigned seed = 0; seed < 30; seed++) {
    std::weak_ptr<Context> left;
    anythingGoes(seed, left);
    eventually([&] { return left.expired(); });
  }
  if (argc > 1) {
    idleMemoryAndThreadsGo();
    threadsThatAreNotNeededGo();
  }
  puts("ok");
  return 0;
}
