// The core without Node and without a TEE: order, closing, cancelling, temporary memory, threads. Meant for
// AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <future>
#include <random>
#include <set>
#include <thread>

#include "../../native/core/completions.h"
#include "../../native/core/context.h"
#include "../../native/core/dma.h"
#include "../../native/core/make_job.h"
#include "../../native/core/memory_limit.h"
#include "../../native/core/shared_memory.h"
#include "executor.h"

using namespace core;
using Log = std::vector<std::string>;
using CallRef = std::shared_ptr<Call>;
using JobRef = std::shared_ptr<Job>;

// Without exit(), which would wait for threads that are in the executor.
#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                                 \
    }                                                                           \
  } while (false)

namespace {

// Arrays that were freed with the bytes of User::invoke in them.
std::atomic<unsigned> unwiped{0};
// So many bytes or more are more than there is.
std::atomic<size_t> tooLarge{SIZE_MAX};

}  // namespace

void* operator new[](size_t size) {
  return malloc(size);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return size < tooLarge ? malloc(size) : nullptr;
}
void operator delete[](void* memory) noexcept {
  const auto* bytes = static_cast<uint8_t*>(memory);
  const size_t size = memory == nullptr ? 0 : malloc_usable_size(memory);
  if (size >= 64 && std::all_of(bytes, bytes + 64, [](uint8_t byte) { return byte == 1; })) unwiped++;
  free(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  operator delete[](memory);
}

namespace {

// What the binding does: makes calls, and takes them when they have ended.
class User {
 public:
  explicit User(unsigned threads = 4, uint64_t bytes = 1 << 20, bool registration = true)
      : completions_(std::make_shared<Completions>(onWake, this)) {
    context_ = std::move(Context::open("", threads, bytes, registration).value());
  }
  // One of several with the same context.
  explicit User(std::shared_ptr<Context> context)
      : completions_(std::make_shared<Completions>(onWake, this)), context_(std::move(context)) {}

  // A thread may still be waking us up for what we have taken already.
  ~User() { completions_->close(); }

  const std::shared_ptr<Context>& context() const { return context_; }

  CallRef make(Call::Kind kind, std::shared_ptr<Session> session = nullptr, bool sync = false) {
    auto call = std::make_shared<Call>(kind, context_, sync);
    call->sessionKey = session ? session->key : context_->newSessionKey();
    call->session = std::move(session);
    if (!sync) call->completions = completions_;
    return call;
  }

  // Null if it was refused.
  CallRef start(CallRef call) {
    if (!context_->start(call)) return nullptr;
    calls_.push_back(call);
    return call;
  }

  CallRef invoke(const std::shared_ptr<Session>& session, uint32_t command, size_t bytes = 0,
                 bool wipe = false) {
    const auto call = make(Call::Kind::invoke, session);
    call->wipe = wipe;
    call->number = command;
    const std::vector<uint8_t> input(bytes, 1);  // is copied
    if (bytes != 0) {
      call->count = 1;
      call->params[0].kind = ParamKind::temporaryIn;
      call->params[0].b = call->params[0].room = bytes;
      call->params[0].input = input.data();
    }
    return start(call);
  }

  CallRef invoke(const std::shared_ptr<Session>& session, uint32_t command,
                 std::shared_ptr<SharedMemory> shared) {
    const auto call = make(Call::Kind::invoke, session);
    call->number = command;
    call->count = 1;
    call->params[0].kind = ParamKind::sharedIn;
    call->params[0].shared = std::move(shared);
    return start(call);
  }

  CallRef open() { return start(make(Call::Kind::open)); }
  CallRef close(const std::shared_ptr<Session>& session) {
    return start(make(Call::Kind::closeSession, session));
  }

  std::shared_ptr<Session> openSync() {
    const auto call = make(Call::Kind::open, nullptr, true);
    context_->runSync(call);
    CHECK(call->answer.status == Status::answered);
    return call->session;
  }

  Answer invokeSync(const std::shared_ptr<Session>& session, uint32_t command) {
    const auto call = make(Call::Kind::invoke, session, true);
    call->number = command;
    context_->runSync(call);
    return call->answer;
  }

  Aborted abort(const CallRef& call) { return context_->abort(call); }

  JobRef closeContext() {
    const auto job = std::make_shared<Job>();
    job->completions = completions_;
    context_->close(job);
    return job;
  }

  // Waits for a job's end.
  Answer answer(const JobRef& job) {
    for (;;) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        woken_ = false;
      }
      for (const JobRef& each : completions_->take()) {
        CHECK(ended_.insert(each).second);
        order_.push_back(each);
      }
      if (ended(job)) return job->answer;
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return woken_; });
    }
  }

  bool ended(const JobRef& job) const { return ended_.count(job) != 0; }
  const std::vector<JobRef>& order() const { return order_; }

  std::shared_ptr<MakeJob> make(std::function<Made()> make) {
    const auto job = std::make_shared<MakeJob>(context_, std::move(make));
    job->completions = completions_;
    CHECK(makers()->post(job) == 0);
    return job;
  }

  // Keeps nothing of what was done.
  void forget() {
    calls_.clear();
    ended_.clear();
    order_.clear();
  }

  void endEnvironment() {
    completions_->close();
    context_->drop(calls_);
    calls_.clear();
    context_->close(nullptr);
  }

 private:
  static void onWake(void* self) {
    auto* user = static_cast<User*>(self);
    std::lock_guard<std::mutex> lock(user->mutex_);
    user->woken_ = true;
    user->wake_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
  std::shared_ptr<Completions> completions_;
  std::shared_ptr<Context> context_;
  std::vector<CallRef> calls_;
  std::set<JobRef> ended_;
  std::vector<JobRef> order_;
};

std::string invoked(const std::shared_ptr<Session>& session, uint32_t command) {
  return "invoke " + std::to_string(session->id) + " " + std::to_string(command);
}
std::string closed(const std::shared_ptr<Session>& session) {
  return "close " + std::to_string(session->id);
}

bool isOpen(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
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
  std::vector<JobRef> ids;
  Log expected;
  for (uint32_t i = 0; i < 50; i++) {
    ids.push_back(user.invoke(session, i));
    expected.push_back(invoked(session, i));
  }
  CHECK(user.invokeSync(session, 50).status == Status::answered);
  expected.push_back(invoked(session, 50));
  CHECK(executor::log() == expected);
  CHECK(executor::most() == 1);
  for (const JobRef& id : ids) user.answer(id);
  CHECK(user.order() == ids);
  user.answer(user.closeContext());
}

void sessionsRunAtTheSameTimeUpToTheBound() {
  User user(3);
  std::vector<std::shared_ptr<Session>> sessions;
  for (int i = 0; i < 5; i++) sessions.push_back(user.openSync());
  executor::reset();
  std::vector<JobRef> ids;
  for (const auto& session : sessions) ids.push_back(user.invoke(session, executor::kBlock));
  for (int i = 0; i < 3; i++) executor::waitFor(invoked(sessions[static_cast<size_t>(i)], executor::kBlock));
  CHECK(executor::log().size() == 3);
  CHECK(user.context()->statistics().threads == 3);
  executor::release();
  for (const JobRef& id : ids) CHECK(user.answer(id).status == Status::answered);
  CHECK(executor::most() == 3);
  user.answer(user.closeContext());
}

void aQueuedCallIsCancelledWithoutBeingSent() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  const auto first = user.invoke(session, executor::kBlock);
  executor::waitFor(invoked(session, executor::kBlock));
  const auto second = user.invoke(session, 1);
  const auto third = user.invoke(session, 2);
  CHECK(user.abort(second) == Aborted::removed);
  CHECK(user.abort(second) == Aborted::ended);
  executor::release();
  user.answer(third);
  CHECK(!third->cancelSent);
  CHECK(user.ended(first) && !user.ended(second));
  CHECK((executor::log() == Log{invoked(session, executor::kBlock), invoked(session, 2)}));
  // Also behind a close.
  executor::reset();
  const auto fourth = user.invoke(session, executor::kBlock);
  executor::waitFor(invoked(session, executor::kBlock));
  const auto fifth = user.invoke(session, 3);
  const auto close = user.close(session);
  CHECK(user.abort(fifth) == Aborted::removed);
  executor::release();
  user.answer(close);
  CHECK(user.ended(fourth));
  user.answer(user.closeContext());
}

void aCallInFlightIsCancelledAndTheNextHeld() {
  User user;
  const auto session = user.openSync();
  executor::reset();
  executor::block("cancel");
  const auto first = user.invoke(session, executor::kBlockCancellable);
  executor::waitFor(invoked(session, executor::kBlockCancellable));
  const auto second = user.invoke(session, 1);
  CHECK(user.abort(first) == Aborted::requested);
  Answer answer = user.answer(first);
  CHECK(answer.result == executor::kCancelled);
  CHECK(first->cancelSent && !(answer.flags & AnswerFlags::staleCancel));
  usleep(20000);
  const std::string cancel = "cancel " + std::to_string(session->id);
  const std::string cancelled = "cancelled " + std::to_string(session->id);
  CHECK((executor::log() == Log{invoked(session, executor::kBlockCancellable), cancel}));
  // A blocking call is held as well.
  auto blocking = std::async(std::launch::async, [&] { return user.invokeSync(session, 2); });
  usleep(20000);
  CHECK(executor::log().size() == 2);
  executor::unblock("cancel");
  CHECK(!(user.answer(second).flags & AnswerFlags::staleCancel) && !second->cancelSent);
  CHECK(blocking.get().status == Status::answered);
  CHECK((executor::log() == Log{invoked(session, executor::kBlockCancellable), cancel, cancelled,
                                invoked(session, 1), invoked(session, 2)}));
  user.answer(user.closeContext());
}

void aCancelThatHitsTheNextCallIsToldApart() {
  User user;
  const auto session = user.openSync();
  const auto end = [&](bool sent, bool cancelled) {
    const uint32_t flags = session->cancelFlags(sent, cancelled);
    CHECK(((flags & AnswerFlags::cancelPending) != 0) == (sent && !cancelled));
    return (flags & AnswerFlags::staleCancel) != 0;
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

// A CANCEL that the TEE did not take has left no flag, whenever that turns out.
void aCancelThatFailsLeavesNothing() {
  for (const bool late : {false, true}) {
    User user;
    const auto session = user.openSync();
    executor::reset();
    executor::refuseCancels(true);
    executor::block("cancel");
    const auto first = user.invoke(session, executor::kBlock);
    executor::waitFor(invoked(session, executor::kBlock));
    CHECK(user.abort(first) == Aborted::requested);
    executor::waitFor("cancel " + std::to_string(session->id));
    if (late) {
      executor::release();
      CHECK(user.answer(first).answered());
    }
    executor::unblock("cancel");
    executor::refuseCancels(false);
    executor::waitFor("cancelled " + std::to_string(session->id));
    executor::release();
    const auto second = user.invoke(session, executor::kCancelsItself);
    CHECK(user.answer(second).result == executor::kCancelled &&
          !(second->answer.flags & AnswerFlags::staleCancel));
    user.answer(user.closeContext());
  }
}

void anAbandonedOpenIsClosedWhenItArrives() {
  User user;
  executor::reset();
  executor::block("open");
  const auto id = user.open();
  eventually([] { return executor::log().size() == 1; });
  CHECK(user.abort(id) == Aborted::removed);
  executor::unblock("open");
  eventually([] { return executor::log().size() == 2; });
  CHECK(executor::log()[1].rfind("close ", 0) == 0);
  user.answer(user.closeContext());
  CHECK(!user.ended(id));
}

void closingDoesNotWaitForAnAbandonedOpen() {
  std::weak_ptr<Context> left;
  executor::reset();
  executor::block("open");
  {
    User user;
    left = user.context();
    const auto id = user.open();
    eventually([] { return executor::log().size() == 1; });
    const auto close = user.closeContext();
    CHECK(user.abort(id) == Aborted::removed);
    user.answer(close);
    CHECK(executor::log().size() == 1);
  }
  executor::unblock("open");
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
    const auto blocked = user.invoke(first, executor::kBlock);
    executor::waitFor(invoked(first, executor::kBlock));
    const auto waiting = user.invoke(second, 1);
    CHECK(user.abort(waiting) == Aborted::removed);
    // Its turn is over, so a blocking call behind it need not wait for the thread.
    CHECK(user.invokeSync(second, 2).status == Status::answered);
    const auto opening = user.open();
    CHECK(user.abort(opening) == Aborted::removed);
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
  const auto id = user.invoke(session, 1, share(user, std::move(keeper)));
  letting.get_future().wait();
  CHECK(user.abort(id) == Aborted::ended);
  let.set_value();
  CHECK(user.answer(id).answered() && !id->cancelSent);
  for (const std::string& entry : executor::log()) CHECK(entry.rfind("cancel", 0) != 0);
  user.answer(user.closeContext());
}

void closingWaitsForWhatIsQueuedAndRefusesMore() {
  User user;
  const auto session = user.openSync();
  const auto other = user.openSync();
  const int device = user.context()->use()->get();
  executor::reset();
  const auto first = user.invoke(session, executor::kBlock);
  const auto second = user.invoke(session, 1, 4096);
  executor::waitFor(invoked(session, executor::kBlock));
  const auto close = user.close(session);
  CHECK(close && !user.close(session));
  CHECK(!user.invoke(session, 2));
  CHECK(user.invokeSync(session, 2).status == Status::closed);
  const auto context = user.closeContext();
  CHECK(!user.invoke(other, 2) && !user.open());
  executor::waitFor(closed(other));
  CHECK(!user.context()->use() && isOpen(device));
  executor::release();
  user.answer(context);
  CHECK((user.order() == std::vector<JobRef>{first, second, close, context}));
  CHECK((executor::log().size() == 5 && executor::log().back() == closed(session)));
  // The calls are all there still, but nobody needs the device any more.
  CHECK(!isOpen(device));
  CHECK(user.context()->statistics().sessions == 0);
  CHECK(user.context()->statistics().temporary.slots == 0);
}

void anOpenThatArrivesInAClosingContextIsClosed() {
  User user;
  executor::reset();
  executor::block("open");
  const auto id = user.open();
  eventually([] { return executor::log().size() == 1; });
  const auto context = user.closeContext();
  executor::unblock("open");
  CHECK(user.answer(id).status == Status::closed);
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

// Many calls are dropped while the session's first one returns. (Not under a sanitizer for threads: it would
// find that a state is read without the lock, which has to be so here.)
[[maybe_unused]] void anEnvironmentsEndDropsAllAtOnce() {
  executor::reset();
  std::weak_ptr<Context> left;
  std::string first;
  {
    User user(1);
    left = user.context();
    const auto session = user.openSync(), other = user.openSync();
    executor::reset();
    user.invoke(session, executor::kBlock);
    first = invoked(session, executor::kBlock);
    executor::waitFor(first);
    // Dropped before the others, so its state tells that they are being dropped.
    const auto waiting = user.invoke(other, 1);
    for (uint32_t i = 0; i < 20000; i++) user.invoke(session, 2);
    auto release = std::async(std::launch::async, [&] {
      while (waiting->state() != Call::State::ended) std::this_thread::yield();
      executor::release();
    });
    user.endEnvironment();
    release.get();
  }
  eventually([&] { return left.expired(); });
  const Log log = executor::log();
  CHECK(log[0] == first);
  CHECK(std::count_if(log.begin(), log.end(), [](const auto& entry) { return entry[0] == 'i'; }) == 1);
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
    CHECK(user.close(second));
    user.endEnvironment();
  }
  executor::release();
  eventually([&] { return left.expired(); });
  const Log log = executor::log();
  CHECK(std::count(log.begin(), log.end(), close) == 1);
}

PageSource registering() {
  return {core::version(STDIN_FILENO).value(), true};
}

void temporaryMemoryIsReusedBoundedAndClean() {
  const size_t page = pageSize();
  CHECK(TemporaryMemory::classOf(1) == page);
  CHECK(TemporaryMemory::classOf(page) == page);
  CHECK(TemporaryMemory::classOf(page + 1) == 2 * page);
  CHECK(TemporaryMemory::classOf(5 * page) == 8 * page);
  CHECK(TemporaryMemory::classOf(SIZE_MAX) == SIZE_MAX);
  CHECK(wholePages(0) == page && wholePages(UINT64_MAX) == 0);

  auto memory = std::make_shared<TemporaryMemory>(8 * page, registering());
  const auto take = [&](size_t bytes, uint64_t session) {
    auto slot = memory->take(bytes, session, STDIN_FILENO);
    CHECK(slot.ok());
    return std::move(slot.value());
  };
  const auto use = [&](std::unique_ptr<Slot> slot, size_t bytes, bool wipe) {
    memset(slot->data(), 7, bytes);
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
  CHECK(!memory->take(SIZE_MAX / 2, 1, STDIN_FILENO).ok());
}

void aCallThatWantsItIsWipedOnTheHeapToo() {
  User user;
  const auto session = user.openSync();
  for (const bool wipe : {false, true}) {
    unwiped = 0;
    user.answer(user.invoke(session, 1, 4096, wipe));
    CHECK(unwiped == (wipe ? 0 : 1));
    executor::reset();
    const auto first = user.invoke(session, executor::kBlock);
    executor::waitFor(invoked(session, executor::kBlock));
    const auto call = user.invoke(session, 1, 4096, wipe);
    CHECK(user.abort(call) == Aborted::removed);
    executor::release();
    user.answer(first);
    user.forget();
  }
  CHECK(unwiped == 0);
  user.answer(user.closeContext());
}

// A TA's answer may claim more than there is room for.
void outputsAreWhatTheTeeWrote() {
  User user;
  const auto session = user.openSync();
  const auto write = [&](bool sync) {
    const auto call = user.make(Call::Kind::invoke, session, sync);
    call->number = executor::kWrites;
    const ParamKind kinds[] = {ParamKind::temporaryOut, ParamKind::nullOut, ParamKind::temporaryInout,
                               ParamKind::valueOut};
    const std::vector<uint8_t> input(100, 1);
    call->count = 4;
    for (size_t i = 0; i < 4; i++) call->params[i].kind = kinds[i];
    call->params[0].b = call->params[0].room = 20000;
    call->params[2].b = call->params[2].room = input.size();
    call->params[2].input = input.data();
    if (sync) {
      user.context()->runSync(call);
    } else {
      user.answer(user.start(call));
    }
    return call;
  };
  for (const bool sync : {false, true}) {
    const auto call = write(sync);
    CHECK(call->answer.answered() && call->params[1].b == executor::kWritten);
    for (const size_t i : {size_t{0}, size_t{2}}) {
      const Parameter& param = call->params[i];
      CHECK(param.b == executor::kWritten && param.written() == (i == 0 ? executor::kWritten : 100));
      const uint8_t* bytes = call->output(param);
      CHECK(std::all_of(bytes, bytes + param.written(),
                        [](uint8_t byte) { return byte == executor::kOutput; }));
    }
  }
  // Without memory for its inputs a call is refused; without memory for its outputs it has none.
  tooLarge = 1000;
  const auto none = write(false);
  CHECK(none->answer.answered() && none->output(none->params[0]) == nullptr);
  tooLarge = 100;
  const auto refused = user.make(Call::Kind::invoke, session);
  const std::vector<uint8_t> input(100, 1);
  refused->count = 1;
  refused->params[0].kind = ParamKind::temporaryIn;
  refused->params[0].room = input.size();
  refused->params[0].input = input.data();
  CHECK(!user.start(refused) && refused->answer.status == ENOMEM);
  tooLarge = SIZE_MAX;
  user.answer(user.closeContext());
}

void aCallThatIsNotSentSaysWhy() {
  User user;
  const auto session = user.openSync();
  CHECK(user.answer(user.invoke(session, executor::kNotSent)).status == EIO);
  CHECK(user.answer(user.invoke(session, 1)).answered());
  user.answer(user.closeContext());
}

bool isNoAllocation(Failure failure) {
  return failure.operation == Operation::shmAlloc && failure.error == ENOMEM;
}

void aTeeThatRegistersNothingAllocates() {
  User user(4, 1 << 20, false);
  const auto session = user.openSync();
  CHECK(user.answer(user.invoke(session, 1, 5000)).answered());
  CHECK(user.context()->statistics().temporary.slots == 1);
  auto shared = allocSharedMemory(user.context(), 5000);
  CHECK(shared.ok() && shared.value()->size() == 5000 && shared.value()->data()[4999] == 0);
  CHECK(user.answer(user.invoke(session, 1, shared.value())).answered());
  // The kernel is not asked for more than it can have.
  const uint64_t most = PageSource::mostContiguous();
  CHECK(most >= 1024 * pageSize());
  CHECK(allocSharedMemory(user.context(), most).ok());
  CHECK(isNoAllocation(allocSharedMemory(user.context(), most + 1).failure()));
  CHECK(user.answer(user.invoke(session, 1, most + 1)).status == ENOMEM);
  CHECK(user.context()->statistics().temporary.slots == 1);
  // What it refuses, and what is too short
  executor::refuseRegistrations(2);
  CHECK(isNoAllocation(allocSharedMemory(user.context(), 5000).failure()));
  executor::limitRegistrations(10);
  CHECK(isNoAllocation(allocSharedMemory(user.context(), 5000).failure()));
  executor::limitRegistrations(UINT64_MAX);
  user.answer(user.closeContext());
}

void onlyAnOpteeThatCannotRegisterHasMemoryOfItsOwn() {
  const uint64_t most = PageSource::mostContiguous();
  uapi::tee_ioctl_version_data version{};
  const auto allocates = [&] {
    auto memory = std::make_shared<TemporaryMemory>(0, PageSource(version, true));
    return memory->newPages(STDIN_FILENO, most + 1);
  };
  CHECK(isNoAllocation(allocates().failure()));
  version.impl_id = uapi::kImplIdOptee;
  CHECK(allocates().ok());
}

void dmaBufsAreMappedAndRegistered() {
  User user;
  auto heap = DmaHeap::open("/dev/dma_heap/system");
  CHECK(heap.ok());
  auto buf = heap.value()->alloc(5000);
  CHECK(buf.ok() && buf.value()->size() == 5000);
  auto pages = buf.value()->map();
  CHECK(pages.ok() && buf.value()->map().value() == pages.value() && buf.value()->pages() == pages.value());
  pages.value()->data()[0] = 7;
  auto duplicate = DmaBuf::adopt(buf.value()->fd(), false);
  CHECK(duplicate.ok() && duplicate.value()->map().value()->data()[0] == 7);
  pages.value()->discard();  // the addresses stay
  CHECK(pages.value()->data()[0] == 0 && duplicate.value()->pages()->data()[0] == 7);
  auto job = user.make([&] { return asMade(registerDmaBuf(user.context(), buf.value()->fd())); });
  CHECK(user.answer(job).answered());
  const auto made = job->take();
  CHECK(std::get<std::shared_ptr<SharedMemory>>(made)->data() == nullptr);
  CHECK(!registerDmaBuf(user.context(), -1).ok());
  CHECK(DmaBuf::adopt(-1, false).failure().operation == Operation::dup);
  CHECK(DmaBuf::adopt(-1, true).failure().operation == Operation::lseek);
  user.forget();
  job.reset();
  user.answer(user.closeContext());
}

void temporaryMemoryGivesWayOnlyWhereThatHelps() {
  const size_t page = pageSize();
  auto memory = std::make_shared<TemporaryMemory>(6 * page, registering());
  const auto take = [&](size_t bytes) {
    auto slot = memory->take(bytes, 1, STDIN_FILENO);
    CHECK(slot.ok());
    return std::move(slot.value());
  };
  const auto give = [&](std::unique_ptr<Slot> slot) { memory->give(std::move(slot), false); };
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
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == Status::answered && slots() == 1);
  executor::refuseRegistrations(1);
  CHECK(allocSharedMemory(user.context(), 100).ok() && slots() == 0);
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == Status::answered && slots() == 1);
  executor::refuseRegistrations(1);
  CHECK(user.answer(user.invoke(session, 1, 20000)).status == Status::answered && slots() == 1);
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
  // Who asks for some has no use for less.
  CHECK(allocSharedMemory(user.context(), 100).failure().error == ENOMEM);
  const auto session = user.openSync();
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == ENOMEM);
  executor::limitRegistrations(UINT64_MAX);
  CHECK(user.answer(user.invoke(session, 1, 4096)).status == Status::answered);
  user.answer(user.closeContext());
}

// Keeps a thread busy until remove().
class Obstacle {
 public:
  explicit Obstacle(const std::shared_ptr<Threads>& threads) {
    CHECK(threads->post(std::make_shared<Wait>(gone_.get_future())) == 0);
  }
  void remove() { gone_.set_value(); }

 private:
  class Wait : public Task {
   public:
    explicit Wait(std::future<void> gone) : gone_(std::move(gone)) {}
    void run() override { gone_.wait(); }

   private:
    std::future<void> gone_;
  };

  std::promise<void> gone_;
};

class Nothing : public Task {
  void run() override {}
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

  const auto call = user.invoke(session, executor::kBlock);
  executor::waitFor(invoked(session, executor::kBlock));
  Obstacle first(releaser());
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
  const auto blocked = user.invoke(first, executor::kBlock);
  CHECK(InTee::any());
  const auto waiting = user.invoke(second, 1);
  executor::release();
  user.answer(blocked);
  user.answer(waiting);
  CHECK(!InTee::any());
  user.invokeSync(first, 2);
  CHECK(!InTee::any());
  user.answer(user.closeContext());
  CHECK(!InTee::any());
}

// Each state of the table in call.h; a context that closes afterwards shows that each is counted once.
void anAbortInEachState() {
  executor::reset();
  std::weak_ptr<Context> left;
  {
    User user(2);
    left = user.context();
    const auto session = user.openSync(), other = user.openSync();
    executor::block("register");
    const auto taking = user.invoke(session, 1, 4096);  // begun: its thread takes memory for it
    executor::waitFor("register");
    const auto queued = user.invoke(session, 2);
    const auto inTee = user.invoke(other, executor::kBlockCancellable);
    executor::waitFor(invoked(other, executor::kBlockCancellable));
    const auto waiting = user.open();  // begun: without a thread yet
    for (const auto& call : {taking, queued, waiting}) {
      CHECK(user.abort(call) == Aborted::removed && call->state() == Call::State::ended);
      CHECK(user.abort(call) == Aborted::ended);
    }
    const auto next = user.invoke(session, 3);
    CHECK(user.abort(inTee) == Aborted::requested);
    CHECK(user.answer(inTee).result == executor::kCancelled);
    executor::unblock("register");
    CHECK(user.answer(next).status == Status::answered);

    executor::block("open");
    executor::reset();
    const auto opening = user.open();
    eventually([] { return executor::log().size() == 1; });
    CHECK(user.abort(opening) == Aborted::removed && opening->state() == Call::State::givenUp);
    CHECK(user.abort(opening) == Aborted::ended);

    executor::block("close");
    const auto close = user.close(session);
    executor::waitFor(closed(session));
    CHECK(user.abort(close) == Aborted::ended);
    executor::unblock("close");
    CHECK(user.answer(close).status == Status::answered);
    CHECK(user.abort(close) == Aborted::ended && user.abort(next) == Aborted::ended);

    user.answer(user.closeContext());
    CHECK((user.order().size() == 4));
    executor::unblock("open");
  }
  eventually([&] { return left.expired() && !InTee::any(); });
  const Log log = executor::log();
  for (uint32_t command : {1u, 2u})
    CHECK(std::count(log.begin(), log.end(), "invoke 1 " + std::to_string(command)) == 0);
}

// What waits holds its input and nothing else, and is taken back in the same time wherever it stands.
void manyCallsWait() {
  constexpr size_t kCalls = 100000;
  const clock_t start = clock();
  for (const bool forward : {true, false}) {
    User user(1);
    const auto session = user.openSync();
    executor::reset();
    const auto blocked = user.invoke(session, executor::kBlock, 16);
    executor::waitFor(invoked(session, executor::kBlock));
    std::vector<CallRef> calls;
    for (size_t i = 0; i < kCalls; i++) calls.push_back(user.invoke(session, 1, 16));
    CHECK(user.context()->statistics().temporary.slots == 1);
    if (!forward) std::reverse(calls.begin(), calls.end());
    for (const CallRef& call : calls) CHECK(user.abort(call) == Aborted::removed);
    executor::release();
    user.answer(blocked);
    user.answer(user.closeContext());
    CHECK(executor::log().size() == 3);  // the registration, one call and the close

    auto threads = std::make_shared<Threads>("one", 1);
    Obstacle obstacle(threads);
    std::vector<std::shared_ptr<Task>> tasks;
    for (size_t i = 0; i < kCalls; i++) {
      tasks.push_back(std::make_shared<Nothing>());
      threads->post(tasks.back());
    }
    if (!forward) std::reverse(tasks.begin(), tasks.end());
    for (const auto& task : tasks) CHECK(threads->remove(*task) && !threads->remove(*task));
    obstacle.remove();
  }
  // Also under a sanitizer. A search through them would take minutes.
  CHECK((clock() - start) / CLOCKS_PER_SEC < 20);
}

// While it lives, this process can make no thread. The limit is the user's and not root's, so root becomes
// somebody else: this is for a child process.
class NoThreads {
 public:
  NoThreads() {
    if (geteuid() == 0) CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    CHECK(getrlimit(RLIMIT_NPROC, &before_) == 0);
    rlimit none = before_;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
    CHECK(startThread("none", [] {}) == EAGAIN);
  }
  ~NoThreads() { CHECK(setrlimit(RLIMIT_NPROC, &before_) == 0); }

 private:
  rlimit before_;
};

bool lacksThread(const Answer& answer) {
  return answer.status == EAGAIN && answer.detail == static_cast<uint32_t>(Operation::thread);
}

void withoutAThreadCallsEnd() {
  constexpr size_t kCalls = 10000;
  executor::reset();
  User user, aborting;
  const auto session = user.openSync(), other = user.openSync(), third = aborting.openSync();
  // On a stack of the addon's own size, which calls within calls would use up.
  std::promise<Answer> blocking;
  CHECK(startThread("blocking", [&] { blocking.set_value(user.invokeSync(session, executor::kBlock)); }) ==
        0);
  executor::waitFor(invoked(session, executor::kBlock));
  const auto cancelled = aborting.invoke(third, executor::kBlockCancellable);
  executor::waitFor(invoked(third, executor::kBlockCancellable));
  std::vector<CallRef> calls;
  for (size_t i = 0; i < kCalls; i++) calls.push_back(user.invoke(session, 1, 16));
  const auto close = user.close(session);
  {
    const NoThreads none;
    // The CANCEL has been sent when abort returns.
    CHECK(aborting.abort(cancelled) == Aborted::requested);
    CHECK(executor::log().back() == "cancelled " + std::to_string(third->id));
    aborting.answer(cancelled);
    CHECK(cancelled->cancelSent);

    const auto opening = user.make(Call::Kind::open);
    CHECK(!user.start(opening) && lacksThread(opening->answer));
    CHECK(lacksThread(user.answer(user.invoke(other, 1, 16))));
    CHECK(user.answer(user.close(other)).status == Status::answered);
    CHECK(executor::log().back() == closed(other));

    executor::release();
    CHECK(user.answer(close).status == Status::answered);
    CHECK(executor::log().back() == closed(session));
    for (const CallRef& call : calls) CHECK(user.ended(call) && lacksThread(call->answer));
    CHECK(user.order().size() == kCalls + 3);
    CHECK(blocking.get_future().get().status == Status::answered);
    user.answer(user.closeContext());
    CHECK(!InTee::any());
  }
  CHECK(aborting.answer(aborting.invoke(third, 1)).status == Status::answered);
  aborting.answer(aborting.closeContext());
}

#ifdef COVERAGE
extern "C" void __gcov_dump();
#endif

// In a child process, which may change what the rest needs. False if it failed.
bool inChild(const std::function<void()>& test) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    test();
#ifdef COVERAGE
    __gcov_dump();  // _exit does not
#endif
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return status == 0;
}

void aDescriptorHasOneOwner() {
  for (int round = 0; round < 200; round++) {
    const int fd = memfd_create("shared", 0);
    std::shared_ptr<DmaBuf> owners[2];
    std::atomic<int> ready{0};
    const auto adopt = [&](size_t i) {
      for (ready++; ready < 2;) {
      }
      auto adopted = DmaBuf::adopt(fd, true);
      if (adopted.ok())
        owners[i] = std::move(adopted.value());
      else
        CHECK(adopted.failure().error == EBUSY && adopted.failure().operation == Operation::adopt);
    };
    std::thread other(adopt, 1);
    adopt(0);
    other.join();
    CHECK((owners[0] == nullptr) != (owners[1] == nullptr));
    CHECK(!UniqueFd::adopt(fd).valid() && isOpen(fd));
    owners[0].reset();
    owners[1].reset();
    CHECK(!isOpen(fd));
    // Its number is somebody else's now.
    CHECK(dup2(STDERR_FILENO, fd) == fd);
    CHECK(UniqueFd::adopt(fd).valid());
    CHECK(!isOpen(fd));
  }
  CHECK(!UniqueFd::adopt(-1).valid());
}

void moreMemoryThanThereIsIsRefused() {
  for (const uint64_t bytes : {uint64_t{1} << 50, UINT64_MAX - pageSize()}) {
    const Failure failure = checkMemory(bytes);
    CHECK(failure.error == ENOMEM && failure.operation == Operation::memAvailable);
    CHECK(Mapping::ownPages(bytes).failure().error == ENOMEM);
  }
  CHECK(!checkMemory(1 << 20));
  // What is in use already is no request.
  static uint8_t used[1 << 20];
  memset(used, 1, sizeof(used));
  CHECK(!checkMemoryOf(used, sizeof(used)));
}

bool writeFile(const std::string& path, const std::string& text, const char* mode = "we") {
  FILE* file = fopen(path.c_str(), mode);
  if (file == nullptr) return false;
  const bool written = fwrite(text.data(), 1, text.size(), file) == text.size();
  return (fclose(file) == 0) && written;
}

// Version 2 of cgroups, and 1, as files that say what a kernel says.
void theLimitsOfGroupsAreRead() {
  char folder[] = P_tmpdir "/node-optee-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string root = folder;
  const auto write = [&](const std::string& path, const std::string& text) {
    for (size_t at = 1; (at = path.find('/', at)) != std::string::npos; at++)
      mkdir((root + path.substr(0, at)).c_str(), 0755);
    CHECK(writeFile(root + path, text));
  };
  constexpr uint64_t kMiB = 1 << 20;
  const auto failure = [&](uint64_t bytes) { return checkMemory(bytes, root); };
  const auto refusedBy = [&](uint64_t bytes, Operation operation) {
    return failure(bytes).error == ENOMEM && failure(bytes).operation == operation;
  };
  CHECK(!failure(1000 * kMiB));  // nothing says anything
  write("/proc/meminfo", "MemTotal:       1638400 kB\nMemFree:          1 kB\nMemAvailable:    1024000 kB\n");
  CHECK(!failure(900 * kMiB) && refusedBy(901 * kMiB, Operation::memAvailable));

  const std::string top = "/sys/fs/cgroup", outer = top + "/outer", inner = outer + "/inner";
  write("/proc/self/cgroup", "0::/outer/inner\n");
  write(top + "/memory.stat", "anon 5\n");
  write(inner + "/memory.max", "max\n");
  write(inner + "/memory.current", "5\n");
  CHECK(!failure(900 * kMiB));
  write(outer + "/memory.max", std::to_string(160 * kMiB) + "\n");
  write(outer + "/memory.current", std::to_string(100 * kMiB) + "\n");
  // A sixteenth of 160 MiB stays free.
  CHECK(!failure(50 * kMiB) && refusedBy(51 * kMiB, Operation::memoryCgroup));
  // The page cache makes room; what only ends in such a name does not.
  write(outer + "/memory.stat",
        "anon 1\nactive_anon 104857600\ninactive_file 10485760\nactive_file 20971520\n");
  CHECK(!failure(80 * kMiB) && refusedBy(81 * kMiB, Operation::memoryCgroup));
  // In a container its own group is the top of what is mounted.
  write("/proc/self/cgroup", "0::/\n");
  CHECK(!failure(900 * kMiB));
  write(top + "/memory.max", std::to_string(32 * kMiB) + "\n");
  write(top + "/memory.current", "0\n");
  CHECK(!failure(30 * kMiB) && refusedBy(31 * kMiB, Operation::memoryCgroup));

  // Version 1 has a hierarchy for each controller.
  const std::string first = "/sys/fs/cgroup/memory/box";
  write("/proc/self/cgroup", "5:cpu,cpuacct:/box\n4:memory:/box\n");
  write(first + "/memory.limit_in_bytes", std::to_string(16 * kMiB) + "\n");
  write(first + "/memory.usage_in_bytes", std::to_string(9 * kMiB) + "\n");
  write(first + "/memory.stat", "inactive_file 0\ntotal_inactive_file 1048576\ntotal_active_file 1048576\n");
  CHECK(!failure(8 * kMiB) && refusedBy(9 * kMiB, Operation::memoryCgroup));
  write(first + "/memory.limit_in_bytes", "9223372036854771712\n");  // none
  CHECK(!failure(900 * kMiB));
  std::filesystem::remove_all(root);
}

// With a limit on a group, and this process in a group within it. False where no such group can be made.
bool aGroupsLimitCounts() {
  constexpr uint64_t kLimit = 128 << 20;
  const std::string name = "/node-optee-" + std::to_string(getpid());
  const bool second = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
  const std::string outer = (second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") + name;
  const std::string inner = outer + "/inner";
  const std::string file = std::string(P_tmpdir) + name;
  bool good = true;
  bool made = mkdir(outer.c_str(), 0755) == 0;
  if (second) made = made && writeFile(outer + "/cgroup.subtree_control", "+memory");
  made = made && mkdir(inner.c_str(), 0755) == 0 &&
         writeFile(outer + (second ? "/memory.max" : "/memory.limit_in_bytes"), std::to_string(kLimit));
  if (made) {
    good = inChild([&] {
      CHECK(writeFile(inner + "/cgroup.procs", std::to_string(getpid())));
      const Failure failure = checkMemory(kLimit);
      CHECK(failure.error == ENOMEM && failure.operation == Operation::memoryCgroup);
      CHECK(!checkMemory(kLimit / 4));
      // Files in the page cache make room, also those of a group within the limited one.
      const std::string part(kLimit / 128, 'x');
      for (int i = 0; i < 96; i++) CHECK(writeFile(file, part, "ae"));
      eventually([&] { return !checkMemory(kLimit / 3); });  // the kernel's statistics come a little later
    });
  }
  unlink(file.c_str());
  rmdir(inner.c_str());
  rmdir(outer.c_str());
  CHECK(good);
  return made;
}

void closingWaitsForWorkOnMemory() {
  User user;
  executor::reset();
  executor::block("register");
  auto memory = std::async(std::launch::async, [&] { return allocSharedMemory(user.context(), 100).ok(); });
  executor::waitFor("register");
  const int device = user.context()->use()->get();
  const auto close = user.closeContext();
  usleep(20000);
  CHECK(isOpen(device));
  CHECK(allocSharedMemory(user.context(), 100).failure().error == EBADF);
  executor::unblock("register");
  user.answer(close);
  CHECK(!isOpen(device));
  CHECK(memory.get());
}

// What is made while its context closes is nobody's, and gone before the close is told.
void closingWaitsForWhatIsMade() {
  User user;
  executor::reset();
  auto owner = std::make_shared<int>();
  const std::weak_ptr<void> kept = owner;
  auto job = user.make([&user, owner = std::move(owner)] {
    return asMade(Result<std::shared_ptr<SharedMemory>>(share(user, owner)));
  });
  executor::waitFor("register");
  const auto close = user.closeContext();
  usleep(20000);
  user.answer(job);
  CHECK(!user.ended(close) && !kept.expired());
  CHECK(std::get<Failure>(job->take()).error == EBADF);
  user.forget();
  job.reset();
  CHECK(kept.expired());
  user.answer(close);
}

// Who waits for the end of a context may drop everything as soon as it is told.
void theLastWordOfAContext() {
  struct Waiter {
    std::shared_ptr<Completions> completions = std::make_shared<Completions>(onWake, this);
    std::promise<bool> alive;

    static void onWake(void* self) {
      auto* waiter = static_cast<Waiter*>(self);
      waiter->completions->take();
      // Who has called this is in there, and needs it until it returns.
      waiter->alive.set_value(waiter->completions.use_count() > 1);
    }
  } waiter;
  const auto context = std::move(Context::open("", 1, 0, true).value());
  auto job = std::make_shared<Job>();
  job->completions = waiter.completions;
  context->close(std::move(job));
  CHECK(waiter.alive.get_future().get());
  waiter.completions->close();
}

void releasesAreBounded() {
  constexpr int kMost = 32;
  Obstacle obstacle(releaser());
  const InTee call;
  const auto owner = std::make_shared<int>();
  for (int i = 0; i < kMost; i++) release({owner, nullptr, {}});
  waitForFewReleases();  // so many may be left behind
  release({owner, nullptr, {}});
  auto waiting = std::async(std::launch::async, waitForFewReleases);
  CHECK(waiting.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
  CHECK(owner.use_count() == kMost + 2);
  obstacle.remove();
  waiting.get();
  CHECK(waitForReleases(std::chrono::seconds(60)) || owner.use_count() == 1);
  eventually([&] { return owner.use_count() == 1; });
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
  CHECK(user.answer(user.invoke(session, 2, 4096)).status == Status::answered);
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
  for (int i = 0; i < 100 && threads->alive() > 1; i++) {
    CHECK(threads->post(std::make_shared<Nothing>()) == 0);
    usleep(100000);
  }
  CHECK(threads->alive() == 1);
}

// Everything at once, in an order that a seed decides: nothing may be lost, and nothing done twice.
void anythingGoes(unsigned seed, std::weak_ptr<Context>& left) {
  std::mt19937 random(seed);
  executor::reset();
  executor::release();
  // The TEE takes its time, here and there.
  std::atomic<bool> over{false};
  auto slow = std::async(std::launch::async, [&over, seed] {
    std::mt19937 random(seed);
    while (!over) {
      const char* what[] = {"open", "register", "cancel", "close", "invoke"};
      const char* chosen = what[random() % 5];
      executor::block(chosen);
      usleep(random() % 300);
      executor::unblock(chosen);
    }
  });
  User user(1 + random() % 4, random() % 3 * 40960, random() % 4 != 0);
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<CallRef> pending;
  std::vector<std::future<void>> memory;
  left = user.context();
  for (int i = 0; i < 4; i++) sessions.push_back(user.openSync());
  for (int i = 0; i < 400; i++) {
    auto& session = sessions[random() % sessions.size()];
    switch (random() % 12) {
      case 0:
        if (random() % 4 == 0) user.invokeSync(session, 1);
        break;
      case 1:
      case 2:
        if (!pending.empty()) {
          const size_t recent = std::min<size_t>(pending.size(), 8);
          const size_t at = pending.size() - 1 - random() % recent;
          if (pending[at]->kind == Call::Kind::closeSession) break;
          if (user.abort(pending[at]) == Aborted::removed)
            pending.erase(pending.begin() + static_cast<ptrdiff_t>(at));
        }
        break;
      case 3:
        if (random() % 5 == 0) {
          pending.push_back(user.close(session));
          session = user.openSync();
        }
        break;
      case 4:
        pending.push_back(user.open());
        break;
      case 5:
        if (memory.size() < 16) {
          memory.push_back(std::async(std::launch::async, [context = user.context()] {
            const auto shared = allocSharedMemory(context, 5000);
            CHECK(shared.ok() || shared.failure().error == EBADF);
          }));
        }
        break;
      default:
        pending.push_back(user.invoke(session, random() % 2 == 0 ? executor::kBlock : 1, random() % 20000));
    }
  }
  if (seed % 2 == 0) {
    user.endEnvironment();
  } else {
    const auto close = user.closeContext();
    for (const CallRef& call : pending) user.answer(call);
    user.answer(close);
    CHECK(user.order().back() == close && user.order().size() == pending.size() + 1);
  }
  memory.clear();
  over = true;
}

// What a thread does with a context that others have, too, until it is closed.
void anythingWithOneContext(const std::shared_ptr<Context>& context, const std::shared_ptr<Session>& shared,
                            unsigned seed) {
  std::mt19937 random(seed);
  User user(context);
  const auto answered = [&user](const CallRef& call) { return call && user.answer(call).answered(); };
  const auto opening = user.open();
  const auto own = answered(opening) ? opening->session : shared;
  for (int i = 0; i < 100; i++) {
    const auto& session = random() % 2 == 0 ? own : shared;
    switch (random() % 8) {
      case 0:
        user.invokeSync(session, 1);
        break;
      case 1: {
        auto memory = allocSharedMemory(context, 5000);
        if (memory.ok()) answered(user.invoke(session, 1, memory.value()));
        break;
      }
      case 2: {
        auto job = user.make([context] { return asMade(allocSharedMemory(context, 100)); });
        user.answer(job);
        job->take();
        break;
      }
      case 3: {
        const auto open = user.open();
        if (open && user.abort(open) != Aborted::removed && answered(open))
          answered(user.close(open->session));
        break;
      }
      case 4:
        context->temporary().releaseIdle();
        context->statistics();
        break;
      default: {
        const auto call = user.invoke(session, 1, random() % 20000, random() % 2 == 0);
        if (call && (random() % 2 == 0 || user.abort(call) != Aborted::removed)) user.answer(call);
      }
    }
  }
  if (own != shared) answered(user.close(own));
}

void threadsShareAContext(unsigned seed, std::weak_ptr<Context>& left) {
  executor::reset();
  executor::release();
  User first(4, 40960);
  left = first.context();
  const auto session = first.openSync();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 6; i++) {
    threads.emplace_back([&, i] { anythingWithOneContext(first.context(), session, seed * 6 + i); });
  }
  const bool early = seed % 2 == 0;
  if (early) usleep(5000);
  const auto close = early ? first.closeContext() : nullptr;
  for (std::thread& thread : threads) thread.join();
  first.answer(early ? close : first.closeContext());
}

// Each session that was opened has been closed, once.
void nothingIsLeft() {
  std::multiset<std::string> opened, ended;
  for (const std::string& entry : executor::log()) {
    if (entry.rfind("open ", 0) == 0) opened.insert(entry.substr(5));
    if (entry.rfind("close ", 0) == 0) ended.insert(entry.substr(6));
  }
  CHECK(opened == ended);
  CHECK(!InTee::any());
}

}  // namespace

// How many seeds. slow: also waits for what is idle to go.
int main(int argc, char** argv) {
  const unsigned seeds = argc > 1 ? static_cast<unsigned>(atoi(argv[1])) : 30;
  const bool slow = argc > 2 && strcmp(argv[2], "slow") == 0;
  CHECK(inChild(withoutAThreadCallsEnd));
  if (!aGroupsLimitCounts()) puts("no cgroup could be made");
  callsOfASessionRunInOrder();
  sessionsRunAtTheSameTimeUpToTheBound();
  aQueuedCallIsCancelledWithoutBeingSent();
  aCallInFlightIsCancelledAndTheNextHeld();
  aCancelThatHitsTheNextCallIsToldApart();
  aCancelThatFailsLeavesNothing();
  anAbandonedOpenIsClosedWhenItArrives();
  closingDoesNotWaitForAnAbandonedOpen();
  aCallThatWaitsForAThreadIsTakenBack();
  noCancelIsSentAfterTheIoctl();
  closingWaitsForWhatIsQueuedAndRefusesMore();
  anOpenThatArrivesInAClosingContextIsClosed();
  anEnvironmentsEndDropsWhatHasNotBegun();
#ifndef __SANITIZE_THREAD__
  anEnvironmentsEndDropsAllAtOnce();
#endif
  anEnvironmentsEndClosesASessionWhoseLastCallHasNoThreadYet();
  temporaryMemoryIsReusedBoundedAndClean();
  aCallThatWantsItIsWipedOnTheHeapToo();
  outputsAreWhatTheTeeWrote();
  aCallThatIsNotSentSaysWhy();
  aTeeThatRegistersNothingAllocates();
  onlyAnOpteeThatCannotRegisterHasMemoryOfItsOwn();
  dmaBufsAreMappedAndRegistered();
  temporaryMemoryGivesWayOnlyWhereThatHelps();
  idleTemporaryMemoryMakesRoomForARegistration();
  aShorterRegistrationIsUsedOnlyAsFarAsItGoes();
  memoryClosedBesideACallIsLeftToAThread();
  aCallThatHasItsTurnCounts();
  anAbortInEachState();
  manyCallsWait();
  aDescriptorHasOneOwner();
  moreMemoryThanThereIsIsRefused();
  theLimitsOfGroupsAreRead();
  closingWaitsForWhatIsMade();
  closingWaitsForWorkOnMemory();
  theLastWordOfAContext();
  releasesAreBounded();
  for (unsigned seed = 0; seed < seeds; seed++) {
    std::weak_ptr<Context> left;
    anythingGoes(seed, left);
    eventually([&] { return left.expired(); });
    nothingIsLeft();
    threadsShareAContext(seed, left);
    eventually([&] { return left.expired(); });
    nothingIsLeft();
  }
  if (slow) {
    idleMemoryAndThreadsGo();
    threadsThatAreNotNeededGo();
  }
  puts("ok");
  return 0;
}
