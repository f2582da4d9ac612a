// A fuzzer of what packs and unpacks calls (core/call.cc, core/tee.cc): its input makes a call, and then
// plays a kernel and a TEE that answer whatever they like. For libFuzzer; with -DREPLAY a program that runs
// files once.
//
// The ioctl below checks each message as the kernel would, and that it says what was asked. Behind it the
// harness checks that what arrives is what was answered, and no byte more.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <map>
#include <vector>

#include "../../native/core/context.h"

using namespace core;

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                  \
    }                                                                           \
  } while (false)

namespace {

// Zeroes when all of it has been taken.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  template <typename T>
  T take() {
    T value{};
    const size_t size = std::min(left_, sizeof(value));
    if (size != 0) memcpy(&value, data_, size);
    data_ += size;
    left_ -= size;
    return value;
  }
  // Of any size, most of them small.
  uint64_t size() {
    const uint8_t how = take<uint8_t>();
    if (how < 128) return how;
    if (how < 240) return take<uint16_t>();
    return take<uint64_t>();
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

// A parameter as it was asked, and what the TEE has answered.
struct Asked {
  ParamKind kind = ParamKind::none;
  uint64_t a = 0, b = 0;
  std::vector<uint8_t> bytes;  // in, then out
  uint64_t answerA = 0, answerB = 0;
};

Input* input = nullptr;
Asked asked[kMaxParams];
uint32_t askedCount = 0;
uint32_t result = 0;
int error = 0;
bool sent = false;

// What is registered, by its descriptor, which is its id as well.
std::mutex mutex;
std::map<int, std::pair<uint8_t*, uint64_t>> regions;

bool isOutput(uint64_t attr) {
  return attr == uapi::kParamMemrefOutput || attr == uapi::kParamMemrefInout;
}
bool isInput(uint64_t attr) {
  return attr == uapi::kParamMemrefInput || attr == uapi::kParamMemrefInout;
}

void answerMemref(Asked& param, uapi::tee_ioctl_param& to) {
  CHECK(to.b == param.b);
  if (to.c == uapi::kMemrefNull) {
    CHECK(static_cast<uint32_t>(param.kind) >> 4 == 1 && to.b == 0);
  } else {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = regions.find(static_cast<int>(to.c));
    CHECK(found != regions.end());
    const auto [memory, size] = found->second;
    CHECK(to.a <= size && to.b <= size - to.a);
    uint8_t* bytes = memory + to.a;
    if (isInput(to.attr)) CHECK(std::equal(param.bytes.begin(), param.bytes.end(), bytes));
    if (isOutput(to.attr)) {
      // Nothing of an earlier call is to be seen.
      uint8_t* const end = !isInput(to.attr) && param.kind < ParamKind::nullIn ? bytes + to.b : bytes;
      CHECK(std::all_of(bytes, end, [](uint8_t byte) { return byte == 0; }));
      memset(bytes, input->take<uint8_t>() | 1, to.b);
      param.bytes.assign(bytes, bytes + to.b);
    }
  }
  to.a = input->size();
  to.b = param.answerB = input->size();
  to.c = input->size();
}

void answer(uapi::tee_ioctl_param* params, uint32_t count) {
  CHECK(count <= askedCount);
  for (uint32_t i = count; i < askedCount; i++) CHECK(asked[i].kind == ParamKind::none);
  for (uint32_t i = 0; i < count; i++) {
    uapi::tee_ioctl_param& to = params[i];
    Asked& param = asked[i];
    CHECK(to.attr == (static_cast<uint32_t>(param.kind) & 7));
    if (to.attr >= uapi::kParamMemrefInput) {
      answerMemref(param, to);
    } else if (to.attr != uapi::kParamNone) {
      CHECK(to.a == param.a && to.b == param.b && to.c == 0);
      to.a = param.answerA = input->size();
      to.b = param.answerB = input->size();
      to.c = input->size();
    }
    to.attr = input->size();
  }
}

template <typename Message>
int call(const uapi::tee_ioctl_buf_data& buffer) {
  auto* message = reinterpret_cast<Message*>(buffer.buf_ptr);
  CHECK(buffer.buf_len >= sizeof(message->arg));
  const uint32_t count = message->arg.num_params;
  CHECK(count <= kMaxParams && buffer.buf_len == sizeof(message->arg) + count * sizeof(message->params[0]));
  sent = true;
  if ((error = input->take<uint8_t>() < 32 ? EIO : 0) != 0) {
    errno = error;
    return -1;
  }
  answer(message->params, count);
  message->arg.ret = result = input->take<uint8_t>() < 128 ? 0 : input->take<uint32_t>();
  message->arg.ret_origin = input->take<uint32_t>();
  message->arg.session = input->take<uint32_t>();
  return 0;
}

int registerMemory(uapi::tee_ioctl_shm_register_data& data) {
  const int fd = open("/dev/null", O_RDWR);
  CHECK(fd >= 0);
  std::lock_guard<std::mutex> lock(mutex);
  regions[fd] = {reinterpret_cast<uint8_t*>(data.addr), data.length};
  data.id = fd;
  return fd;
}

}  // namespace

// Instead of the system's: this program has no device.
extern "C" int ioctl(int, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* data = va_arg(arguments, void*);
  va_end(arguments);
  switch (request) {
    case uapi::kTeeIocVersion:
      static_cast<uapi::tee_ioctl_version_data*>(data)->gen_caps = uapi::kGenCapRegMem;
      return 0;
    case uapi::kTeeIocShmRegister:
      return registerMemory(*static_cast<uapi::tee_ioctl_shm_register_data*>(data));
    case uapi::kTeeIocOpenSession:
      return call<OpenSessionMessage>(*static_cast<uapi::tee_ioctl_buf_data*>(data));
    case uapi::kTeeIocInvoke:
      return call<InvokeMessage>(*static_cast<uapi::tee_ioctl_buf_data*>(data));
    case uapi::kTeeIocCloseSession:
      return 0;
    default:
      abort();
  }
}

namespace {

constexpr ParamKind kKinds[] = {
    ParamKind::none,        ParamKind::valueIn,      ParamKind::valueOut,       ParamKind::valueInout,
    ParamKind::temporaryIn, ParamKind::temporaryOut, ParamKind::temporaryInout, ParamKind::intoOut,
    ParamKind::inPlace,     ParamKind::nullIn,       ParamKind::nullOut,        ParamKind::nullInout,
    ParamKind::sharedIn,    ParamKind::sharedOut,    ParamKind::sharedInout,    ParamKind::none,
};

constexpr uint64_t kSharedSize = 10000;

struct World {
  std::shared_ptr<Context> context = std::move(Context::open("/dev/null", 1, 1 << 16, true).value());
  std::shared_ptr<Session> session = std::make_shared<Session>(context, 1, context->newSessionKey());
  // One for each parameter, so that they do not write over each other.
  std::shared_ptr<SharedMemory> shared[kMaxParams];

  World() {
    for (auto& each : shared) each = std::move(allocSharedMemory(context, kSharedSize).value());
  }
};

World& world() {
  static auto* world = new World;
  return *world;
}

// As the binding reads parameters: what it refuses never gets here. False if this one is refused.
bool ask(Asked& param, Parameter& to, const std::shared_ptr<SharedMemory>& shared) {
  param = {};
  param.kind = kKinds[input->take<uint8_t>() % std::size(kKinds)];
  to.kind = param.kind;
  static const uint8_t none = 0;
  if (to.isShared()) {
    param.a = input->size();
    param.b = input->size();
    if (!shared->contains(param.a, param.b)) return false;
    to.shared = shared;
    memset(shared->data() + param.a, input->take<uint8_t>(), param.b);
    param.bytes.assign(shared->data() + param.a, shared->data() + param.a + param.b);
  } else if (to.isTemporary()) {
    param.b = input->size();
    // There is either memory for it at once, or never.
    constexpr uint64_t kSmall = 1 << 17, kHuge = uint64_t{1} << 48, kMost = uint64_t{1} << 53;
    const bool isHuge = param.kind == ParamKind::temporaryOut && param.b >= kHuge && param.b < kMost;
    if (param.b > kSmall && !isHuge) return false;
    if (to.isIn()) {
      param.bytes.assign(param.b, input->take<uint8_t>());
      to.input = param.b == 0 ? &none : param.bytes.data();
    }
  } else if (to.isValue() && to.isIn()) {
    param.a = input->take<uint32_t>();
    param.b = input->take<uint32_t>();
  }
  to.a = param.a;
  to.b = param.b;
  if (!to.isValue()) to.room = to.b;
  return true;
}

void check(const Call& call) {
  if (!call.answer.answered()) {
    CHECK(!sent || error != 0 || call.answer.status == Status::closed);
    return;
  }
  CHECK(sent && error == 0 && call.answer.result == result);
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& param = call.params[i];
    if (!param.isOut() || param.kind == ParamKind::none) continue;
    CHECK(param.b == asked[i].answerB);
    if (param.isValue()) CHECK(param.a == asked[i].answerA);
    if (!param.isTemporary()) continue;
    CHECK(param.written() <= asked[i].b);
    const uint8_t* bytes = call.output(param);
    // Of all of them there is at least a copy.
    CHECK(bytes != nullptr || param.written() == 0);
    if (bytes != nullptr) CHECK(std::equal(bytes, bytes + param.written(), asked[i].bytes.begin()));
  }
}

void run(const std::shared_ptr<Call>& call) {
  if (call->sync) return world().context->runSync(call);
  struct Waiter {
    std::shared_ptr<Completions> completions = std::make_shared<Completions>(onWake, this);
    std::promise<void> ended;

    static void onWake(void* self) { static_cast<Waiter*>(self)->ended.set_value(); }
  } waiter;
  call->completions = waiter.completions;
  if (world().context->start(call)) waiter.ended.get_future().wait();
  waiter.completions->close();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input all(data, size);
  input = &all;
  sent = false;
  error = 0;
  World& w = world();
  const uint8_t how = input->take<uint8_t>();
  const auto kind = (how & 1) != 0 ? Call::Kind::open : Call::Kind::invoke;
  const auto call = std::make_shared<Call>(kind, w.context, (how & 2) != 0);
  call->wipe = (how & 4) != 0;
  if (kind == Call::Kind::invoke) call->session = w.session;
  call->sessionKey = (how & 8) != 0 ? w.context->newSessionKey() : w.session->key;
  askedCount = (how >> 4) % (kMaxParams + 1);
  for (uint32_t i = 0; i < askedCount; i++) {
    if (!ask(asked[i], call->params[i], w.shared[i])) return 0;
  }
  call->count = askedCount;
  run(call);
  check(*call);
  if (kind == Call::Kind::open && call->session) {
    const auto close = std::make_shared<Call>(Call::Kind::closeSession, w.context, true);
    close->session = call->session;
    w.context->runSync(close);
  }
  return 0;
}

#ifdef REPLAY
int main(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    FILE* file = fopen(argv[i], "re");
    CHECK(file != nullptr);
    uint8_t bytes[4096];
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    // The second time there is memory that the first one has used.
    for (int round = 0; round < 2; round++) LLVMFuzzerTestOneInput(bytes, size);
  }
  printf("%d\n", argc - 1);
  return 0;
}
#endif
