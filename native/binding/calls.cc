// The hot path, in plain Node-API: open and invoke, from JavaScript's arguments to a call, and from its
// answer to a record.
#include <algorithm>
#include <cstring>

#include "client.h"
#include "values.h"

namespace binding {

using core::Call;
using core::Parameter;
using core::ParamKind;
using core::Place;
using core::Status;

namespace {

// The arguments of invoke and openSession: Functions in lib/client/native.ts.
enum Argument : size_t { kHandle, kNumber, kFlags, kKinds, kParams, kUuid = 16, kClient, kCount };
// Of each parameter: a, b and its memory.
constexpr size_t kStride = 3;

// An ArrayBuffer's memory is zeroed before it is written, that of a Buffer is not; from here on that counts.
constexpr size_t kZeroedFirst = 4096;

struct Arguments {
  napi_value values[kCount];
  Client* client = nullptr;

  Arguments(napi_env env, napi_callback_info info) {
    size_t count = kCount;
    void* data = nullptr;
    // Those that were not given are undefined.
    if (napi_get_cb_info(env, info, &count, values, nullptr, &data) == napi_ok)
      client = static_cast<Client*>(data);
  }
};

bool getUint(napi_env env, napi_value value, double most, uint64_t& number) {
  double read;
  return napi_get_value_double(env, value, &read) == napi_ok && toUint(read, most, number);
}

bool getUint32(napi_env env, napi_value value, uint32_t& number) {
  uint64_t wide;
  if (!getUint(env, value, 4294967295.0, wide)) return false;
  number = static_cast<uint32_t>(wide);
  return true;
}

double getHandle(napi_env env, napi_value value) {
  double read;
  return napi_get_value_double(env, value, &read) == napi_ok ? read : -1;
}

bool getBytes(napi_env env, napi_value value, Bytes& bytes) {
  napi_typedarray_type type{};
  void* data = nullptr;
  // Answers napi_invalid_arg for anything but a typed array.
  if (napi_get_typedarray_info(env, value, &type, &bytes.length, &data, nullptr, nullptr) != napi_ok)
    return false;
  if (type != napi_uint8_array) return false;
  bytes.data = static_cast<uint8_t*>(data);
  if (data == nullptr) bytes.length = 0;  // detached
  return true;
}

napi_value toNumber(napi_env env, uint32_t value) {
  napi_value number = nullptr;
  napi_create_uint32(env, value, &number);
  return number;
}

bool refuse(Call& call, int32_t status, uint32_t detail) {
  call.answer.refuse(status, detail);
  return false;
}

// What is not right about an argument is told by its index.
bool badArgument(Call& call, size_t index) {
  return refuse(call, Status::argument, static_cast<uint32_t>(index));
}

bool goesInto(ParamKind kind) {
  return kind == ParamKind::intoOut || kind == ParamKind::inPlace;
}

bool readTemporary(napi_env env, const napi_value* values, size_t at, uint32_t index, Call& call,
                   Bytes& bytes) {
  Parameter& param = call.params[index];
  if (!getUint(env, values[at + 1], kMaxSafe, param.b)) return badArgument(call, at + 1);
  param.room = param.b;
  if (param.kind == ParamKind::temporaryOut) return true;
  if (!getBytes(env, values[at + 2], bytes)) return badArgument(call, at + 2);
  // Its memory was moved, or it has become shorter or longer since the parameter was made.
  if (bytes.length != param.room) return refuse(call, Status::bytesChanged, index);
  static const uint8_t none = 0;
  if (param.isIn()) param.input = bytes.length == 0 ? &none : bytes.data;
  return true;
}

bool readShared(napi_env env, Client& client, const napi_value* values, size_t at, uint32_t index,
                Call& call) {
  Parameter& param = call.params[index];
  if (!getUint(env, values[at], kMaxSafe, param.a)) return badArgument(call, at);
  if (!getUint(env, values[at + 1], kMaxSafe, param.b)) return badArgument(call, at + 1);
  param.room = param.b;
  param.shared = client.handles.get<core::SharedMemory>(getHandle(env, values[at + 2]));
  if (!param.shared) return refuse(call, Status::sharedMemoryClosed, index);
  if (param.shared->context() != call.context) return refuse(call, Status::otherContext, index);
  if (!param.shared->contains(param.a, param.b)) return refuse(call, Status::outOfBounds, index);
  return true;
}

// bytes: where the caller's own are, valid until JavaScript runs again.
bool readParam(napi_env env, Client& client, const napi_value* values, uint32_t index, Call& call,
               Bytes& bytes) {
  const size_t at = kParams + index * kStride;
  Parameter& param = call.params[index];
  switch (param.kind) {
    case ParamKind::none:
    case ParamKind::valueOut:
    case ParamKind::nullIn:
    case ParamKind::nullOut:
    case ParamKind::nullInout:
      return true;
    case ParamKind::valueIn:
    case ParamKind::valueInout: {
      uint32_t a, b;
      if (!getUint32(env, values[at], a)) return badArgument(call, at);
      if (!getUint32(env, values[at + 1], b)) return badArgument(call, at + 1);
      param.a = a;
      param.b = b;
      return true;
    }
    case ParamKind::temporaryIn:
    case ParamKind::temporaryOut:
    case ParamKind::temporaryInout:
    case ParamKind::intoOut:
    case ParamKind::inPlace:
      return readTemporary(env, values, at, index, call, bytes);
    case ParamKind::sharedIn:
    case ParamKind::sharedOut:
    case ParamKind::sharedInout:
      return readShared(env, client, values, at, index, call);
  }
  return badArgument(call, kKinds);
}

bool readCall(napi_env env, Client& client, const napi_value* values, Call& call, Bytes* bytes) {
  uint32_t flags, kinds;
  if (!getUint32(env, values[kNumber], call.number)) return badArgument(call, kNumber);
  if (!getUint32(env, values[kFlags], flags) || flags > core::RequestFlags::wipe)
    return badArgument(call, kFlags);
  if (!getUint32(env, values[kKinds], kinds)) return badArgument(call, kKinds);
  call.wipe = (flags & core::RequestFlags::wipe) != 0;
  for (uint32_t i = 0; kinds != 0; i++, kinds >>= 8) {
    call.params[i].kind = static_cast<ParamKind>(kinds & 0xff);
    if (!readParam(env, client, values, i, call, bytes[i])) return false;
    call.count = i + 1;
  }
  return true;
}

bool readUuids(napi_env env, const napi_value* values, Call& call) {
  Bytes uuid, client;
  if (!getBytes(env, values[kUuid], uuid) || uuid.length != sizeof(call.uuid))
    return badArgument(call, kUuid);
  if (!getBytes(env, values[kClient], client) || client.length != sizeof(call.client)) {
    return badArgument(call, kClient);
  }
  memcpy(call.uuid, uuid.data, sizeof(call.uuid));
  memcpy(call.client, client.data, sizeof(call.client));
  return true;
}

// An opening has brought a session: it gets its handle, or is closed again.
double addSession(Client& client, Call& call) {
  if (call.context->closing()) {
    call.answer.refuse(Status::closed);
    return 0;
  }
  const double session = client.handles.add(call.session);
  if (session != 0) return session;
  const auto close = std::make_shared<Call>(Call::Kind::closeSession, call.context, false);
  close->session = call.session;
  call.context->start(close);
  call.answer.fail({core::Operation::handle, EMFILE});
  return 0;
}

// Copies outputs to where they belong: into the caller's own bytes, or into new arrays.
void writeOutputs(napi_env env, const Client& client, const Call& call, size_t record, const Bytes* bytes) {
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& param = call.params[i];
    double* numbers = client.record(record) + Place::data + i * 2;
    numbers[0] = static_cast<double>(param.a);
    numbers[1] = static_cast<double>(param.b);
    if (!param.isTemporary() || !param.isOut() || !call.answer.answered()) continue;
    const size_t length = param.written();
    const uint8_t* data = call.output(param);
    const bool kept = data != nullptr || length == 0;
    if (goesInto(param.kind)) {
      const bool fits = kept && param.room <= bytes[i].length;
      if (fits && length != 0 && call.answer.result == 0) memcpy(bytes[i].data, data, length);
      numbers[0] = fits;
    } else {
      napi_value made = kept ? makeBytes(env, data, length) : nullptr;
      if (made == nullptr) napi_get_undefined(env, &made);
      client.setOutput(record, i, made);
    }
  }
}

void writeCall(napi_env env, Client& client, Call& call, size_t record, const Bytes* bytes) {
  const double session = call.kind == Call::Kind::open && call.session ? addSession(client, call) : 0;
  client.answer(call.answer, record);
  client.record(record)[Place::made] = session;
  writeOutputs(env, client, call, record, bytes);
}

// The caller's own bytes of an asynchronous call, as they are now.
void findOwn(napi_env env, const Ticket& ticket, Bytes* bytes) {
  for (uint32_t i = 0; i < core::kMaxParams; i++) {
    napi_value value = nullptr;
    if (ticket.into[i] == nullptr) continue;
    if (napi_get_reference_value(env, ticket.into[i], &value) == napi_ok) getBytes(env, value, bytes[i]);
  }
}

// Returns the ticket; or 0, with the reason in the first record.
napi_value startCall(napi_env env, Client& client, std::shared_ptr<Call> call, const napi_value* values,
                     bool good) {
  Ticket ticket;
  ticket.job = ticket.call = call;
  for (uint32_t i = 0; good && i < call->count; i++) {
    if (!goesInto(call->params[i].kind)) continue;
    if (napi_create_reference(env, values[kParams + i * kStride + 2], 1, &ticket.into[i]) != napi_ok) {
      good = badArgument(*call, kParams + i * kStride + 2);
    }
  }
  const uint32_t index = client.enter(std::move(ticket));
  if (good && call->context->start(call)) return toNumber(env, index);
  client.leave(index);
  client.answer(call->answer);
  return toNumber(env, 0);
}

// Opens a session with a context, or invokes a command of a session.
template <Call::Kind kind, bool sync>
napi_value call(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  const double handle = getHandle(env, arguments.values[kHandle]);
  std::shared_ptr<core::Context> context;
  std::shared_ptr<core::Session> session;
  if (kind == Call::Kind::open) {
    context = client.handles.get<core::Context>(handle);
  } else if ((session = client.handles.get<core::Session>(handle))) {
    context = session->context;
  }
  if (!context) {
    core::Answer none;
    none.refuse(Status::closed);
    client.answer(none);
    return toNumber(env, 0);
  }
  const auto made = std::make_shared<Call>(kind, context, sync);
  made->sessionKey = session ? session->key : context->newSessionKey();
  made->session = std::move(session);
  Bytes bytes[core::kMaxParams];
  const bool good = (kind != Call::Kind::open || readUuids(env, arguments.values, *made)) &&
                    readCall(env, client, arguments.values, *made, bytes);
  if (!sync) return startCall(env, client, made, arguments.values, good);
  if (good) context->runSync(made);
  writeCall(env, client, *made, 0, bytes);
  return nullptr;
}

napi_value abort(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto aborted = core::Aborted::ended;
  uint64_t index;
  if (arguments.client != nullptr && getUint(env, arguments.values[0], kMaxSafe, index)) {
    Client& client = *arguments.client;
    Ticket* ticket = client.find(index);
    if (ticket != nullptr && ticket->call && ticket->call->kind != Call::Kind::closeSession) {
      aborted = ticket->call->context->abort(ticket->call);
      if (aborted == core::Aborted::removed) client.leave(static_cast<uint32_t>(index));
    }
  }
  return toNumber(env, static_cast<uint32_t>(aborted));
}

napi_value closeSession(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  Entry* entry = client.handles.find(getHandle(env, arguments.values[0]));
  const auto session = entry == nullptr ? nullptr : entry->as<core::Session>();
  if (!session) return toNumber(env, 0);
  client.handles.remove(*entry);
  const auto call = std::make_shared<Call>(Call::Kind::closeSession, session->context, false);
  call->session = session;
  return startCall(env, client, call, arguments.values, true);
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

bool isEnding(napi_env env) {
  napi_value object = nullptr;
  // Node-API refuses what could run JavaScript where none can run any more; a freeze never does.
  return napi_create_object(env, &object) != napi_ok || napi_object_freeze(env, object) != napi_ok;
}

// Tickets are given back when JavaScript has read their answers, and not before: no other job has one of them
// meanwhile.
void deliver(napi_env env, Client& client, napi_value function) {
  client.views.sweep();
  const std::vector<std::shared_ptr<core::Job>> ended = client.takeEnded();
  for (size_t from = 0; from < ended.size(); from += client.batch()) {
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    const size_t count = std::min(client.batch(), ended.size() - from);
    for (size_t i = 1; i <= count; i++) {
      const std::shared_ptr<core::Job>& job = ended[from + i - 1];
      const Ticket& ticket = *client.find(job->ticket);
      if (ticket.call) {
        Bytes bytes[core::kMaxParams];
        findOwn(env, ticket, bytes);
        writeCall(env, client, *ticket.call, i, bytes);
      } else if (ticket.make) {
        client.add(ticket.make->take(), i);
      } else {
        client.answer(job->answer, i);
      }
      client.record(i)[Place::ticket] = job->ticket;
    }
    napi_value undefined;
    napi_get_undefined(env, &undefined);
    const napi_value argument = toNumber(env, static_cast<uint32_t>(count));
    if (napi_call_function(env, undefined, function, 1, &argument, nullptr) == napi_pending_exception) {
      napi_value error;
      if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    }
    for (size_t i = 0; i < count; i++) client.leave(ended[from + i]->ticket);
    napi_close_handle_scope(env, scope);
  }
}

void addCallFunctions(Napi::Object functions, Client& client) {
  const struct {
    const char* name;
    napi_callback function;
  } all[] = {
      {"openSession", call<Call::Kind::open, false>},
      {"openSessionSync", call<Call::Kind::open, true>},
      {"invoke", call<Call::Kind::invoke, false>},
      {"invokeSync", call<Call::Kind::invoke, true>},
      {"abort", abort},
      {"closeSession", closeSession},
  };
  for (const auto& [name, function] : all) {
    napi_value made;
    if (napi_create_function(functions.Env(), name, NAPI_AUTO_LENGTH, function, &client, &made) == napi_ok)
      functions.Set(name, made);
  }
}

}  // namespace binding
