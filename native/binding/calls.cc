// The hot path: open and invoke, from a packet to its call and back.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "client.h"
#include "numbers.h"

namespace binding {

using core::Call;
using core::Parameter;

namespace {

// ParamKind in lib/client/native.ts: the kernel's attribute in the low three bits, where the memory is above.
constexpr uint64_t kAttribute = 0x07;
constexpr uint64_t kTemporary = 0x00;
constexpr uint64_t kOwn = 0x08;
constexpr uint64_t kNull = 0x10;
constexpr uint64_t kShared = 0x20;

constexpr uint32_t kWipe = 1;

// An ArrayBuffer's memory is zeroed before it is written, that of a Buffer is not; from here on that counts.
constexpr size_t kZeroedFirst = 4096;

bool isMemref(uint64_t attr) {
  return attr >= uapi::kParamMemrefInput && attr <= uapi::kParamMemrefInout;
}

bool refuse(Call& call, int32_t status, uint32_t detail) {
  call.answer.status = status;
  call.answer.detail = detail;
  return false;
}

[[gnu::hot]] bool readParam(napi_env env, Client& client, const double* numbers, uint32_t index,
                            napi_value argument, Call& call, Bytes& bytes) {
  const uint32_t at = packet::kParams + index * packet::kStride;
  Parameter& param = call.params[index];
  uint64_t kind;
  if (!toUint(numbers[at + packet::kKind], 0xff, kind)) return refuse(call, core::status::kArgument, at);
  if (kind == uapi::kParamNone) return true;
  param.attr = kind & kAttribute;
  if (kind >= uapi::kParamValueInput && kind <= uapi::kParamValueInout) {
    if (kind == uapi::kParamValueOutput) return true;
    uint32_t a, b;
    if (!toUint32(numbers[at + packet::kA], a)) return refuse(call, core::status::kArgument, at + packet::kA);
    if (!toUint32(numbers[at + packet::kB], b)) return refuse(call, core::status::kArgument, at + packet::kB);
    param.a = a;
    param.b = b;
    return true;
  }
  if (!isMemref(param.attr)) return refuse(call, core::status::kArgument, at);
  switch (kind & ~kAttribute) {
    case kOwn:
      if (param.attr == uapi::kParamMemrefInput) return refuse(call, core::status::kArgument, at);
      param.own = true;
      [[fallthrough]];
    case kTemporary:
      param.memory = Parameter::Memory::temporary;
      if (kind == uapi::kParamMemrefOutput) {
        if (!toUint(numbers[at + packet::kB], kMaxSafe, param.b)) {
          return refuse(call, core::status::kArgument, at + packet::kB);
        }
      } else {
        if (!readBytes(env, argument, bytes)) return refuse(call, core::status::kArgument, at);
        param.b = bytes.length;
      }
      break;
    case kNull:
      param.memory = Parameter::Memory::null;
      break;
    case kShared: {
      param.memory = Parameter::Memory::shared;
      if (!toUint(numbers[at + packet::kA], kMaxSafe, param.a)) {
        return refuse(call, core::status::kArgument, at + packet::kA);
      }
      if (!toUint(numbers[at + packet::kB], kMaxSafe, param.b)) {
        return refuse(call, core::status::kArgument, at + packet::kB);
      }
      const double handle = numbers[at + packet::kMemory];
      param.shared = call.sync ? client.handles.borrow<core::SharedMemory>(handle)
                               : client.handles.get<core::SharedMemory>(handle);
      if (!param.shared) return refuse(call, core::status::kSharedMemoryClosed, index);
      if (param.shared->context() != call.context) return refuse(call, core::status::kOtherContext, index);
      if (!param.shared->contains(param.a, param.b)) return refuse(call, core::status::kOutOfBounds, index);
      break;
    }
    default:
      return refuse(call, core::status::kArgument, at);
  }
  param.given = param.b;
  return true;
}

// Reads the packet and copies what temporary buffers hold. bytes: of those; they are valid until JavaScript
// runs again. False: the call has the status that says why.
[[gnu::hot]] bool readCall(napi_env env, Client& client, const double* numbers, const napi_value* arguments,
                           Call& call, Bytes* bytes) {
  uint32_t flags;
  if (!toUint32(numbers[packet::kNumber], call.number)) {
    return refuse(call, core::status::kArgument, packet::kNumber);
  }
  if (!toUint32(numbers[packet::kFlags], flags) || flags > kWipe) {
    return refuse(call, core::status::kArgument, packet::kFlags);
  }
  call.wipe = (flags & kWipe) != 0;
  uint32_t count;
  if (!toUint32(numbers[packet::kCount], count) || count > core::kMaxParams) {
    return refuse(call, core::status::kArgument, packet::kCount);
  }
  call.count = count;
  uint64_t size = 0;
  bool tooLarge = false;
  for (uint32_t i = 0; i < call.count; i++) {
    if (!readParam(env, client, numbers, i, arguments[i], call, bytes[i])) return false;
    Parameter& param = call.params[i];
    if (param.memory != Parameter::Memory::temporary) continue;
    // Each buffer begins a page, an empty one too: OP-TEE maps whole pages.
    param.a = size;
    const size_t pages = core::wholePages(param.b);
    tooLarge = tooLarge || pages == 0;
    size += pages;  // four of at most 2^53 each
  }
  if (size == 0) return true;
  if (tooLarge) {
    call.answer.fail({core::Operation::memfdCreate, ENOMEM});
    return false;
  }
  auto slot = call.context->temporary().take(size, call.sessionKey);
  if (!slot.ok()) {
    call.answer.fail(slot.failure());
    return false;
  }
  call.slot = std::move(slot.value());
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& param = call.params[i];
    if (param.memory != Parameter::Memory::temporary) continue;
    if (param.attr == uapi::kParamMemrefOutput) {
      call.slot->zero(param.a, param.b);
    } else if (param.b != 0) {
      memcpy(call.slot->data() + param.a, bytes[i].data, param.b);
    }
  }
  return true;
}

[[gnu::hot]] void writeAnswer(double* record, const Call& call, double session) {
  record[packet::kStatus] = call.answer.status;
  record[packet::kDetail] = call.answer.detail;
  record[packet::kResult] = call.answer.result;
  record[packet::kOrigin] = call.answer.origin;
  record[packet::kFlags] = call.answer.flags;
  record[packet::kHandle] = session;
  for (uint32_t i = 0; i < call.count; i++) {
    double* to = record + packet::kParams + i * packet::kStride;
    to[packet::kA] = static_cast<double>(call.params[i].a);
    to[packet::kB] = static_cast<double>(call.params[i].b);
    to[packet::kMemory] = -1;
  }
}

// Small ones into the client's bytes, the others as arrays. What is to be wiped is copied once only. own:
// where the caller's own bytes are; null while they cannot be relied on.
[[gnu::hot]] void collectOutputs(napi_env env, Client& client, const Call& call, double* record,
                                 napi_value* outputs, uint32_t first, const Bytes* own) {
  if (!call.slot || call.answer.status != core::status::kAnswered) return;
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& param = call.params[i];
    if (param.memory != Parameter::Memory::temporary || param.attr == uapi::kParamMemrefInput) continue;
    const uint8_t* data = call.slot->data() + param.a;
    const uint64_t length = std::min(param.b, param.given);
    if (param.own) {
      if (own != nullptr && call.answer.result == 0 && length != 0) memcpy(own[i].data, data, length);
      continue;
    }
    double& at = record[packet::kParams + i * packet::kStride + packet::kMemory];
    if (!call.wipe && client.putBytes(data, length, at)) continue;
    if (*outputs == nullptr && napi_create_array(env, outputs) != napi_ok) return;
    napi_value bytes = makeBytes(env, data, length);
    if (bytes != nullptr) napi_set_element(env, *outputs, first + i, bytes);
  }
}

// The answer to a call that there is no object for.
void writeClosed(double* numbers) {
  numbers[packet::kStatus] = core::status::kClosed;
  numbers[packet::kFlags] = 0;
  numbers[packet::kHandle] = 0;
}

bool readUuids(napi_env env, const napi_value* arguments, Call& call) {
  Bytes uuid, client;
  if (!readBytes(env, arguments[0], uuid) || uuid.length != sizeof(call.uuid) ||
      !readBytes(env, arguments[1], client) || client.length != sizeof(call.client)) {
    return refuse(call, core::status::kArgument, packet::kHandle);
  }
  memcpy(call.uuid, uuid.data, sizeof(call.uuid));
  memcpy(call.client, client.data, sizeof(call.client));
  return true;
}

napi_value startCall(napi_env env, Client& client, double* numbers, std::unique_ptr<Call> call, bool read) {
  const uint32_t ticket = client.enter(*call);
  const std::shared_ptr<core::Context> context = call->context;
  if (!read || !context->start(call)) {
    client.returnTicket(ticket);
    writeAnswer(numbers, *call, 0);
    return unsignedNumber(env, 0);
  }
  client.callStarted(env);
  return unsignedNumber(env, ticket);
}

napi_value runCall(napi_env env, Client& client, double* numbers, Call& call, bool read, const Bytes* own) {
  if (read) call.context->runSync(call);
  client.forgetBytes();
  napi_value outputs = nullptr;
  writeRecord(env, client, call, numbers, &outputs, 0, own);
  return outputs;
}

napi_value openSession(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  if (arguments.client == nullptr) return unsignedNumber(env, 0);
  Client& client = *arguments.client;
  double* numbers = client.packet();
  const auto context = client.handles.get<core::Context>(numbers[packet::kHandle]);
  if (!context) {
    writeClosed(numbers);
    return unsignedNumber(env, 0);
  }
  auto call = std::make_unique<Call>(Call::Kind::open, context);
  call->sessionKey = context->newSessionKey();
  Bytes bytes[core::kMaxParams];
  const bool read = readUuids(env, arguments.values, *call) &&
                    readCall(env, client, numbers, arguments.values + 2, *call, bytes);
  return startCall(env, client, numbers, std::move(call), read);
}

napi_value openSessionSync(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  double* numbers = client.packet();
  const auto context = client.handles.get<core::Context>(numbers[packet::kHandle]);
  if (!context) {
    writeClosed(numbers);
    return nullptr;
  }
  Call call(Call::Kind::open, context, Call::Caller::waits);
  call.sessionKey = context->newSessionKey();
  Bytes bytes[core::kMaxParams];
  const bool read = readUuids(env, arguments.values, call) &&
                    readCall(env, client, numbers, arguments.values + 2, call, bytes);
  return runCall(env, client, numbers, call, read, bytes);
}

[[gnu::hot]] napi_value invoke(napi_env env, napi_callback_info info) {
  const Arguments<4> arguments(env, info);
  if (arguments.client == nullptr) return unsignedNumber(env, 0);
  Client& client = *arguments.client;
  double* numbers = client.packet();
  auto session = client.handles.get<core::Session>(numbers[packet::kHandle]);
  if (!session) {
    writeClosed(numbers);
    return unsignedNumber(env, 0);
  }
  auto call = std::make_unique<Call>(Call::Kind::invoke, session->context);
  call->sessionKey = session->key;
  call->session = std::move(session);
  Bytes bytes[core::kMaxParams];
  const bool read = readCall(env, client, numbers, arguments.values, *call, bytes);
  return startCall(env, client, numbers, std::move(call), read);
}

[[gnu::hot]] napi_value invokeSync(napi_env env, napi_callback_info info) {
  const Arguments<4> arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  double* numbers = client.packet();
  // No JavaScript runs before this function returns, so nothing leaves the table.
  auto session = client.handles.borrow<core::Session>(numbers[packet::kHandle]);
  if (!session) {
    writeClosed(numbers);
    return nullptr;
  }
  Call call(Call::Kind::invoke, borrowed(session->context.get()), Call::Caller::waits);
  call.sessionKey = session->key;
  call.session = std::move(session);
  Bytes bytes[core::kMaxParams];
  const bool read = readCall(env, client, numbers, arguments.values, call, bytes);
  return runCall(env, client, numbers, call, read, bytes);
}

napi_value takeOutput(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  bool taken = false;
  uint64_t record, index;
  Bytes into;
  if (arguments.client != nullptr && readUint(env, arguments.values[0], kMaxSafe, record) &&
      readUint(env, arguments.values[1], core::kMaxParams - 1, index) &&
      readBytes(env, arguments.values[2], into)) {
    const Call* call = arguments.client->delivered(record);
    if (call != nullptr && call->slot && call->answer.status == core::status::kAnswered) {
      const Parameter& param = call->params[index];
      const uint64_t length = std::min(param.b, param.given);
      taken = param.own && param.given <= into.length;
      if (taken && length != 0) memcpy(into.data, call->slot->data() + param.a, length);
    }
  }
  napi_value answer = nullptr;
  napi_get_boolean(env, taken, &answer);
  return answer;
}

napi_value cancel(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  auto cancelled = core::Cancelled::ended;
  uint64_t ticket;
  if (arguments.client != nullptr && readUint(env, arguments.values[0], kMaxSafe, ticket)) {
    cancelled = arguments.client->cancel(env, ticket);
  }
  return unsignedNumber(env, static_cast<uint32_t>(cancelled));
}

napi_value closeSession(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  if (arguments.client == nullptr) return unsignedNumber(env, 0);
  Client& client = *arguments.client;
  Entry* entry = client.handles.find<core::Session>(readHandle(env, arguments.values[0]));
  if (entry == nullptr) return unsignedNumber(env, 0);
  const auto session = std::static_pointer_cast<core::Session>(entry->object);
  client.handles.remove(*entry);
  auto call = std::make_unique<Call>(Call::Kind::closeSession, session->context);
  const uint32_t ticket = client.enter(*call);
  call->session = session;
  if (!session->context->closeSession(*session, std::move(call))) {
    client.returnTicket(ticket);
    return unsignedNumber(env, 0);
  }
  client.callStarted(env);
  return unsignedNumber(env, ticket);
}

}  // namespace

napi_value makeBytes(napi_env env, const uint8_t* data, size_t length) {
  napi_value buffer = nullptr, bytes = nullptr;
  void* into = nullptr;
  if (length < kZeroedFirst) {
    if (napi_create_arraybuffer(env, length, &into, &buffer) != napi_ok) return nullptr;
  } else if (napi_create_buffer(env, length, &into, &bytes) != napi_ok ||
             napi_get_typedarray_info(env, bytes, nullptr, nullptr, nullptr, &buffer, nullptr) != napi_ok) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    return nullptr;
  }
  if (length != 0) memcpy(into, data, length);
  if (napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &bytes) != napi_ok) return nullptr;
  return bytes;
}

[[gnu::hot]] void writeRecord(napi_env env, Client& client, Call& call, double* record, napi_value* outputs,
                              uint32_t first, const Bytes* own) {
  double session = 0;
  if (call.kind == Call::Kind::open && call.session) {
    if (call.context->closing()) {
      call.answer.status = core::status::kClosed;
    } else {
      session = client.handles.add(call.session);
      if (session == 0) {
        auto close = std::make_unique<Call>(Call::Kind::closeSession, call.context);
        close->session = call.session;
        call.context->closeSession(*call.session, std::move(close));
        call.answer.fail({core::Operation::handle, EMFILE});
      }
    }
  }
  record[packet::kCall] = call.ticket;
  writeAnswer(record, call, session);
  collectOutputs(env, client, call, record, outputs, first, own);
}

const NamedFunction kCallFunctions[7] = {
    {"openSession", openSession},   {"openSessionSync", openSessionSync}, {"invoke", invoke},
    {"invokeSync", invokeSync},     {"takeOutput", takeOutput},           {"cancel", cancel},
    {"closeSession", closeSession},
};

}  // namespace binding
