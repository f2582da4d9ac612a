// libteec's public functions over native/core, so that OP-TEE's own suite, unmodified, tests the core. For
// that alone: what users of libteec know as its behaviour is kept as far as the suite asks for it.
//
// Calls are asynchronous ones that are waited for, since those can be cancelled. With TEEC_BLOCKING in the
// environment they are blocking ones.
#include <tee_client_api.h>
#include <tee_client_api_extensions.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>

#include "../../native/core/context.h"

#define PUBLIC extern "C" __attribute__((visibility("default")))

using namespace core;

namespace {

// Objects by small numbers, which are in the places of libteec's own.
template <typename T>
class Table {
 public:
  int add(std::shared_ptr<T> object) {
    std::lock_guard<std::mutex> lock(mutex_);
    objects_[++last_] = std::move(object);
    return last_;
  }
  // Null if there is none.
  std::shared_ptr<T> get(int number) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = objects_.find(number);
    return found == objects_.end() ? nullptr : found->second;
  }
  std::shared_ptr<T> take(int number) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto node = objects_.extract(number);
    return node.empty() ? nullptr : std::move(node.mapped());
  }

 private:
  std::mutex mutex_;
  std::map<int, std::shared_ptr<T>> objects_;
  int last_ = 0;
};

// Memory that the kernel does not register, because it is read-only, has a copy that it does.
struct Shared {
  std::shared_ptr<SharedMemory> memory;
  uint8_t* original = nullptr;  // of a copy

  void toCopy(size_t offset, size_t size) const {
    if (original != nullptr) memcpy(memory->data() + offset, original + offset, size);
  }
  void fromCopy(size_t offset, size_t size) const {
    if (original != nullptr) memcpy(original + offset, memory->data() + offset, size);
  }
};

// Where a job's end arrives.
class Waiter {
 public:
  Waiter() : completions_(std::make_shared<Completions>(onWake, this)) {}
  ~Waiter() { completions_->close(); }

  const std::shared_ptr<Completions>& completions() const { return completions_; }
  // True: the job has ended. False: it was taken back.
  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || removed_; });
    return ended_;
  }
  void remove() {
    std::lock_guard<std::mutex> lock(mutex_);
    removed_ = true;
    changed_.notify_all();
  }

 private:
  static void onWake(void* self) {
    auto* waiter = static_cast<Waiter*>(self);
    std::lock_guard<std::mutex> lock(waiter->mutex_);
    waiter->ended_ = true;
    waiter->changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  bool removed_ = false;
  const std::shared_ptr<Completions> completions_;
};

// Calls under way, by their operations, for TEEC_RequestCancellation.
struct Cancellable {
  std::shared_ptr<Call> call;
  Waiter* waiter;
};

struct Running {
  std::mutex mutex;
  std::map<TEEC_Operation*, Cancellable> calls;
};

// Never destroyed, since threads may work while the process exits.
auto& contexts = *new Table<Context>;
auto& sessions = *new Table<Session>;
auto& memories = *new Table<Shared>;
auto& running = *new Running;

struct Outcome {
  TEEC_Result result;
  uint32_t origin;
};
constexpr Outcome kBadParameters{TEEC_ERROR_BAD_PARAMETERS, TEEC_ORIGIN_API};

ParamKind kindOf(bool isInput, bool isOutput, ParamKind in, ParamKind out, ParamKind inout) {
  if (isInput && isOutput) return inout;
  return isInput ? in : out;
}

bool fillTemporary(uint32_t type, const TEEC_TempMemoryReference& from, Parameter& to) {
  const bool isInput = type != TEEC_MEMREF_TEMP_OUTPUT, isOutput = type != TEEC_MEMREF_TEMP_INPUT;
  to.b = to.room = from.size;
  if (from.buffer == nullptr) {
    to.kind = kindOf(isInput, isOutput, ParamKind::nullIn, ParamKind::nullOut, ParamKind::nullInout);
    return from.size == 0;
  }
  to.kind =
      kindOf(isInput, isOutput, ParamKind::temporaryIn, ParamKind::temporaryOut, ParamKind::temporaryInout);
  if (isInput) to.input = static_cast<const uint8_t*>(from.buffer);
  return true;
}

bool fillShared(uint32_t type, const TEEC_RegisteredMemoryReference& from, Parameter& to) {
  const TEEC_SharedMemory& parent = *from.parent;
  const bool isWhole = type == TEEC_MEMREF_WHOLE;
  const uint32_t flags = isWhole                              ? parent.flags
                         : type == TEEC_MEMREF_PARTIAL_INPUT  ? TEEC_MEM_INPUT
                         : type == TEEC_MEMREF_PARTIAL_OUTPUT ? TEEC_MEM_OUTPUT
                                                              : TEEC_MEM_INPUT | TEEC_MEM_OUTPUT;
  const auto shared = memories.get(parent.imp.id);
  if (!shared || flags == 0 || (parent.flags & flags) != flags) return false;
  to.kind = kindOf((flags & TEEC_MEM_INPUT) != 0, (flags & TEEC_MEM_OUTPUT) != 0, ParamKind::sharedIn,
                   ParamKind::sharedOut, ParamKind::sharedInout);
  to.a = isWhole ? 0 : from.offset;
  to.b = to.room = isWhole ? parent.size : from.size;
  to.shared = shared->memory;
  if (to.a > parent.size || to.b > parent.size - to.a || !shared->memory->contains(to.a, to.b)) return false;
  if (to.isIn()) shared->toCopy(to.a, to.b);
  return true;
}

bool fill(const TEEC_Operation* operation, Call& call) {
  if (operation == nullptr) return true;
  for (uint32_t i = 0; i < kMaxParams; i++) {
    const uint32_t type = TEEC_PARAM_TYPE_GET(operation->paramTypes, i);
    const TEEC_Parameter& from = operation->params[i];
    Parameter& to = call.params[i];
    bool good = true;
    switch (type) {
      case TEEC_NONE:
        continue;
      case TEEC_VALUE_INPUT:
      case TEEC_VALUE_OUTPUT:
      case TEEC_VALUE_INOUT:
        to.kind = static_cast<ParamKind>(type);
        to.a = from.value.a;
        to.b = from.value.b;
        break;
      case TEEC_MEMREF_TEMP_INPUT:
      case TEEC_MEMREF_TEMP_OUTPUT:
      case TEEC_MEMREF_TEMP_INOUT:
        good = fillTemporary(type, from.tmpref, to);
        break;
      case TEEC_MEMREF_WHOLE:
      case TEEC_MEMREF_PARTIAL_INPUT:
      case TEEC_MEMREF_PARTIAL_OUTPUT:
      case TEEC_MEMREF_PARTIAL_INOUT:
        good = fillShared(type, from.memref, to);
        break;
      default:
        return false;
    }
    if (!good) return false;
    call.count = i + 1;
  }
  return true;
}

void readOutputs(const Call& call, TEEC_Operation* operation) {
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& from = call.params[i];
    TEEC_Parameter& to = operation->params[i];
    if (!from.isOut() || from.kind == ParamKind::none) continue;
    if (from.isValue()) {
      to.value.a = static_cast<uint32_t>(from.a);
      to.value.b = static_cast<uint32_t>(from.b);
    } else if (from.isShared()) {
      if (const auto shared = memories.get(to.memref.parent->imp.id))
        shared->fromCopy(from.a, from.written());
      to.memref.size = from.b;
    } else {
      const uint8_t* bytes = from.isTemporary() ? call.output(from) : nullptr;
      // A TA that asks for more room need not have written any. One that succeeds may have cut off what it
      // says.
      const bool isWritten = from.b <= from.room || call.answer.result == TEEC_SUCCESS;
      if (bytes != nullptr && isWritten) memcpy(to.tmpref.buffer, bytes, from.written());
      to.tmpref.size = from.b;
    }
  }
}

Outcome outcomeOf(const Answer& answer) {
  if (answer.answered()) return {answer.result, answer.origin};
  const auto operation = static_cast<Operation>(answer.detail);
  const bool sent = operation == Operation::openSession || operation == Operation::invoke;
  const uint32_t origin = sent ? TEEC_ORIGIN_COMMS : TEEC_ORIGIN_API;
  if (answer.status == ENOMEM) return {TEEC_ERROR_OUT_OF_MEMORY, origin};
  if (answer.status == EINVAL && sent) return {TEEC_ERROR_BAD_PARAMETERS, origin};
  return {TEEC_ERROR_GENERIC, origin};
}

bool blocking() {
  static const bool blocking = getenv("TEEC_BLOCKING") != nullptr;
  return blocking;
}

std::shared_ptr<Call> make(Call::Kind kind, std::shared_ptr<Context> context,
                           std::shared_ptr<Session> session) {
  auto call = std::make_shared<Call>(kind, std::move(context), blocking());
  call->sessionKey = session ? session->key : call->context->newSessionKey();
  call->session = std::move(session);
  return call;
}

Outcome run(const std::shared_ptr<Call>& call, TEEC_Operation* operation) {
  if (!fill(operation, *call)) return kBadParameters;
  if (call->sync) {
    call->context->runSync(call);
  } else {
    Waiter waiter;
    call->completions = waiter.completions();
    // An open cannot be cancelled.
    const bool cancellable = operation != nullptr && call->kind == Call::Kind::invoke;
    if (cancellable) {
      std::lock_guard<std::mutex> lock(running.mutex);
      running.calls[operation] = {call, &waiter};
    }
    const bool ended = !call->context->start(call) || waiter.wait();
    if (cancellable) {
      std::lock_guard<std::mutex> lock(running.mutex);
      running.calls.erase(operation);
    }
    if (!ended) return {TEEC_ERROR_CANCEL, TEEC_ORIGIN_API};
  }
  if (operation != nullptr && call->answer.answered()) readOutputs(*call, operation);
  return outcomeOf(call->answer);
}

TEEC_Result tell(Outcome outcome, uint32_t* origin) {
  if (origin != nullptr) *origin = outcome.origin;
  return outcome.result;
}

bool goodFlags(const TEEC_SharedMemory& memory) {
  return memory.flags != 0 && (memory.flags & ~(TEEC_MEM_INPUT | TEEC_MEM_OUTPUT)) == 0;
}

// The kernel registers no empty memory.
size_t sizeOf(const TEEC_SharedMemory& memory) {
  return memory.size == 0 ? 8 : memory.size;
}

TEEC_Result add(std::shared_ptr<SharedMemory> memory, uint8_t* original, TEEC_SharedMemory& to) {
  to.imp.id = memories.add(std::make_shared<Shared>(Shared{std::move(memory), original}));
  return TEEC_SUCCESS;
}

}  // namespace

PUBLIC TEEC_Result TEEC_InitializeContext(const char* name, TEEC_Context* context) {
  constexpr unsigned kThreads = 16;
  constexpr uint64_t kTemporary = 1 << 20;
  if (context == nullptr) return TEEC_ERROR_BAD_PARAMETERS;
  if (name != nullptr && strcmp(name, "optee-tz") != 0) return TEEC_ERROR_ITEM_NOT_FOUND;
  auto opened = Context::open("/dev/tee0", kThreads, kTemporary, true);
  if (!opened.ok()) return TEEC_ERROR_ITEM_NOT_FOUND;
  context->imp.fd = contexts.add(std::move(opened.value()));
  return TEEC_SUCCESS;
}

PUBLIC void TEEC_FinalizeContext(TEEC_Context* context) {
  const auto closing = context == nullptr ? nullptr : contexts.take(context->imp.fd);
  if (!closing) return;
  Waiter waiter;
  auto closed = std::make_shared<Job>();
  closed->completions = waiter.completions();
  closing->close(std::move(closed));
  waiter.wait();
}

PUBLIC TEEC_Result TEEC_OpenSession(TEEC_Context* context, TEEC_Session* session,
                                    const TEEC_UUID* destination, uint32_t connectionMethod,
                                    const void* connectionData, TEEC_Operation* operation,
                                    uint32_t* returnOrigin) {
  const auto opened = context == nullptr ? nullptr : contexts.get(context->imp.fd);
  if (!opened || session == nullptr || destination == nullptr) return tell(kBadParameters, returnOrigin);
  const auto call = make(Call::Kind::open, opened, nullptr);
  const uint8_t numbers[] = {static_cast<uint8_t>(destination->timeLow >> 24),
                             static_cast<uint8_t>(destination->timeLow >> 16),
                             static_cast<uint8_t>(destination->timeLow >> 8),
                             static_cast<uint8_t>(destination->timeLow),
                             static_cast<uint8_t>(destination->timeMid >> 8),
                             static_cast<uint8_t>(destination->timeMid),
                             static_cast<uint8_t>(destination->timeHiAndVersion >> 8),
                             static_cast<uint8_t>(destination->timeHiAndVersion)};
  memcpy(call->uuid, numbers, sizeof(numbers));
  memcpy(call->uuid + sizeof(numbers), destination->clockSeqAndNode, sizeof(destination->clockSeqAndNode));
  call->number = connectionMethod;
  if (connectionMethod == TEEC_LOGIN_GROUP || connectionMethod == TEEC_LOGIN_GROUP_APPLICATION) {
    if (connectionData == nullptr) return tell(kBadParameters, returnOrigin);
    memcpy(call->client, connectionData, sizeof(uint32_t));
  }
  const Outcome outcome = run(call, operation);
  if (outcome.result == TEEC_SUCCESS) {
    session->imp.ctx = context;
    session->imp.session_id = static_cast<uint32_t>(sessions.add(call->session));
  }
  return tell(outcome, returnOrigin);
}

PUBLIC void TEEC_CloseSession(TEEC_Session* session) {
  const auto closing =
      session == nullptr ? nullptr : sessions.take(static_cast<int>(session->imp.session_id));
  if (closing) run(make(Call::Kind::closeSession, closing->context, closing), nullptr);
}

PUBLIC TEEC_Result TEEC_InvokeCommand(TEEC_Session* session, uint32_t commandID, TEEC_Operation* operation,
                                      uint32_t* returnOrigin) {
  const auto opened = session == nullptr ? nullptr : sessions.get(static_cast<int>(session->imp.session_id));
  if (!opened) return tell(kBadParameters, returnOrigin);
  const auto call = make(Call::Kind::invoke, opened->context, opened);
  call->number = commandID;
  return tell(run(call, operation), returnOrigin);
}

PUBLIC void TEEC_RequestCancellation(TEEC_Operation* operation) {
  std::lock_guard<std::mutex> lock(running.mutex);
  const auto found = running.calls.find(operation);
  if (found == running.calls.end()) return;
  const Cancellable& cancellable = found->second;
  if (cancellable.call->context->abort(cancellable.call) == Aborted::removed) cancellable.waiter->remove();
}

PUBLIC TEEC_Result TEEC_RegisterSharedMemory(TEEC_Context* context, TEEC_SharedMemory* memory) {
  const auto opened = context == nullptr ? nullptr : contexts.get(context->imp.fd);
  if (!opened || memory == nullptr || !goodFlags(*memory) || memory->buffer == nullptr)
    return TEEC_ERROR_BAD_PARAMETERS;
  auto* bytes = static_cast<uint8_t*>(memory->buffer);
  auto registered = registerSharedMemory(opened, bytes, sizeOf(*memory), nullptr);
  if (registered.ok()) return add(std::move(registered.value()), nullptr, *memory);
  auto copy = allocSharedMemory(opened, sizeOf(*memory));
  if (!copy.ok()) return copy.failure().error == ENOMEM ? TEEC_ERROR_OUT_OF_MEMORY : TEEC_ERROR_GENERIC;
  return add(std::move(copy.value()), bytes, *memory);
}

PUBLIC TEEC_Result TEEC_RegisterSharedMemoryFileDescriptor(TEEC_Context* context, TEEC_SharedMemory* memory,
                                                           int fd) {
  const auto opened = context == nullptr ? nullptr : contexts.get(context->imp.fd);
  if (!opened || memory == nullptr || !goodFlags(*memory) || fd < 0) return TEEC_ERROR_BAD_PARAMETERS;
  auto registered = registerDmaBuf(opened, fd);
  if (!registered.ok()) return TEEC_ERROR_BAD_PARAMETERS;
  memory->buffer = nullptr;
  memory->size = registered.value()->size();
  return add(std::move(registered.value()), nullptr, *memory);
}

PUBLIC TEEC_Result TEEC_AllocateSharedMemory(TEEC_Context* context, TEEC_SharedMemory* memory) {
  const auto opened = context == nullptr ? nullptr : contexts.get(context->imp.fd);
  if (!opened || memory == nullptr || !goodFlags(*memory)) return TEEC_ERROR_BAD_PARAMETERS;
  auto allocated = allocSharedMemory(opened, sizeOf(*memory));
  if (!allocated.ok()) return TEEC_ERROR_OUT_OF_MEMORY;
  memory->buffer = allocated.value()->data();
  return add(std::move(allocated.value()), nullptr, *memory);
}

PUBLIC void TEEC_ReleaseSharedMemory(TEEC_SharedMemory* memory) {
  if (memory == nullptr || !memories.take(memory->imp.id)) return;
  memory->imp.id = -1;
  memory->buffer = nullptr;
}

// libckteec writes its own log with these two.
PUBLIC void _dprintf(const char*, int, int, const char*, const char*, ...) {}
PUBLIC void dump_buffer(const char*, const uint8_t*, size_t) {}
