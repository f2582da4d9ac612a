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
using core::RequestPlace;
using core::Status;

namespace {

// The arguments of openSession, of which invoke has the first four: Functions in lib/client/native.ts.
constexpr size_t kBytes = 0, kUuid = core::kMaxParams, kClient = kUuid + 1, kCount = kClient + 1;
// What is not right about an argument is told by its index behind the places of the request.
constexpr size_t kArguments = placeOf(RequestPlace::length);

// An ArrayBuffer's memory is zeroed before it is written, that of a Buffer is not; from here on that counts.
constexpr size_t kZeroedFirst = 16384;

// What a function was called with. Its arguments are read at the first use: most calls have no bytes.
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env), info_(info) {
    void* data = nullptr;
    if (napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data) == napi_ok)
      client = static_cast<Client*>(data);
  }

  // Those that were not given are undefined.
  napi_value operator[](size_t index) {
    size_t count = kCount;
    if (!read_) napi_get_cb_info(env_, info_, &count, values_, nullptr, nullptr);
    read_ = true;
    return values_[index];
  }

  Client* client = nullptr;

 private:
  const napi_env env_;
  const napi_callback_info info_;
  napi_value values_[kCount] = {};
  bool read_ = false;
};

// -1, which is neither a handle nor a ticket, for what is no number.
double getNumber(napi_env env, napi_value value) {
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

bool badArgument(Call& call, size_t place) {
  return refuse(call, Status::argument, static_cast<uint32_t>(place));
}

bool goesInto(ParamKind kind) {
  return kind == ParamKind::intoOut || kind == ParamKind::inPlace;
}

// A number of the request, which must be a whole one and at most `most`.
template <typename Uint>
bool readNumber(const Client& client, Call& call, RequestPlace place, size_t param, double most,
                Uint& number) {
  uint64_t read;
  if (!toUint(client.request(place, param), most, read)) return badArgument(call, placeOf(place, param));
  number = static_cast<Uint>(read);
  return true;
}

bool readTemporary(napi_env env, Arguments& arguments, uint32_t index, Call& call, Bytes& bytes) {
  Parameter& param = call.params[index];
  if (!readNumber(*arguments.client, call, RequestPlace::b, index, kMaxSafe, param.b)) return false;
  param.room = param.b;
  if (param.kind == ParamKind::temporaryOut) return true;
  if (!getBytes(env, arguments[kBytes + index], bytes)) return badArgument(call, kArguments + index);
  // Its memory was moved, or it has become shorter or longer since the parameter was made.
  if (bytes.length != param.room) return refuse(call, Status::bytesChanged, index);
  static const uint8_t none = 0;
  if (param.isIn()) param.input = bytes.length == 0 ? &none : bytes.data;
  return true;
}

bool readPair(const Client& client, uint32_t index, Call& call, double most) {
  Parameter& param = call.params[index];
  return readNumber(client, call, RequestPlace::a, index, most, param.a) &&
         readNumber(client, call, RequestPlace::b, index, most, param.b);
}

bool readShared(Client& client, uint32_t index, Call& call) {
  Parameter& param = call.params[index];
  if (!readPair(client, index, call, kMaxSafe)) return false;
  param.room = param.b;
  param.shared = client.handles.get<core::SharedMemory>(client.request(RequestPlace::memory, index));
  if (!param.shared) return refuse(call, Status::sharedMemoryClosed, index);
  if (param.shared->context() != call.context) return refuse(call, Status::otherContext, index);
  if (!param.shared->contains(param.a, param.b)) return refuse(call, Status::outOfBounds, index);
  return true;
}

// bytes: where the caller's own are, valid until JavaScript runs again.
bool readParam(napi_env env, Arguments& arguments, uint32_t index, Call& call, Bytes& bytes) {
  Client& client = *arguments.client;
  uint32_t kind;
  if (!readNumber(client, call, RequestPlace::kind, index, kMaxUint32, kind)) return false;
  Parameter& param = call.params[index];
  param.kind = static_cast<ParamKind>(kind);
  switch (param.kind) {
    case ParamKind::none:
    case ParamKind::valueOut:
    case ParamKind::nullIn:
    case ParamKind::nullOut:
    case ParamKind::nullInout:
      return true;
    case ParamKind::valueIn:
    case ParamKind::valueInout:
      return readPair(client, index, call, kMaxUint32);
    case ParamKind::temporaryIn:
    case ParamKind::temporaryOut:
    case ParamKind::temporaryInout:
    case ParamKind::intoOut:
    case ParamKind::inPlace:
      return readTemporary(env, arguments, index, call, bytes);
    case ParamKind::sharedIn:
    case ParamKind::sharedOut:
    case ParamKind::sharedInout:
      return readShared(client, index, call);
  }
  return badArgument(call, placeOf(RequestPlace::kind, index));
}

bool readCall(napi_env env, Arguments& arguments, Call& call, Bytes* bytes) {
  const Client& client = *arguments.client;
  uint32_t flags, count;
  if (!readNumber(client, call, RequestPlace::number, 0, kMaxUint32, call.number) ||
      !readNumber(client, call, RequestPlace::flags, 0, core::RequestFlags::wipe, flags) ||
      !readNumber(client, call, RequestPlace::count, 0, core::kMaxParams, count)) {
    return false;
  }
  call.wipe = (flags & core::RequestFlags::wipe) != 0;
  for (uint32_t i = 0; i < count; i++) {
    if (!readParam(env, arguments, i, call, bytes[i])) return false;
    call.count = i + 1;
  }
  return true;
}

bool readUuids(napi_env env, Arguments& arguments, Call& call) {
  Bytes uuid, client;
  if (!getBytes(env, arguments[kUuid], uuid) || uuid.length != sizeof(call.uuid))
    return badArgument(call, kArguments + kUuid);
  if (!getBytes(env, arguments[kClient], client) || client.length != sizeof(call.client)) {
    return badArgument(call, kArguments + kClient);
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

// Copies outputs to where they belong: into the caller's own bytes, or into new arrays. The former first:
// where they are is known only until JavaScript runs again, which an array with setters would make it.
void writeOutputs(napi_env env, const Client& client, const Call& call, size_t record, const Bytes* bytes) {
  const auto isOutput = [&call](const Parameter& param) {
    return param.isTemporary() && param.isOut() && call.answer.answered();
  };
  const auto isKept = [&call](const Parameter& param) {
    return call.output(param) != nullptr || param.written() == 0;
  };
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& param = call.params[i];
    double* numbers = client.record(record) + Place::data + i * 2;
    numbers[0] = static_cast<double>(param.a);
    numbers[1] = static_cast<double>(param.b);
    if (!isOutput(param) || !goesInto(param.kind)) continue;
    const bool fits = isKept(param) && param.room <= bytes[i].length;
    if (fits && param.written() != 0 && call.answer.result == 0)
      memcpy(bytes[i].data, call.output(param), param.written());
    numbers[0] = fits;
  }
  for (uint32_t i = 0; i < call.count; i++) {
    const Parameter& param = call.params[i];
    if (!isOutput(param) || goesInto(param.kind)) continue;
    napi_value made = isKept(param) ? makeBytes(env, call.output(param), param.written()) : nullptr;
    if (made == nullptr) napi_get_undefined(env, &made);
    client.setOutput(record, i, made);
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
napi_value startCall(napi_env env, Arguments& arguments, std::shared_ptr<Call> call, bool good) {
  Client& client = *arguments.client;
  Ticket ticket;
  ticket.job = ticket.call = call;
  for (uint32_t i = 0; good && i < call->count; i++) {
    if (!goesInto(call->params[i].kind)) continue;
    if (napi_create_reference(env, arguments[kBytes + i], 1, &ticket.into[i]) != napi_ok)
      good = badArgument(*call, kArguments + i);
  }
  const uint32_t index = client.enter(std::move(ticket));
  if (good && call->context->start(call)) return toNumber(env, index);
  client.leave(index);
  client.answer(call->answer);
  return toNumber(env, 0);
}

// An open or invoke of what the request's handle names; null if that is nothing.
template <Call::Kind kind>
std::shared_ptr<Call> makeCall(Client& client, bool sync) {
  const double handle = client.request(RequestPlace::handle);
  std::shared_ptr<Call> call;
  if constexpr (kind == Call::Kind::open) {
    auto context = client.handles.get<core::Context>(handle);
    if (!context) return nullptr;
    call = std::make_shared<Call>(kind, std::move(context), sync);
    call->sessionKey = call->context->newSessionKey();
  } else {
    auto session = client.handles.get<core::Session>(handle);
    if (!session) return nullptr;
    call = std::make_shared<Call>(kind, session->context, sync);
    call->sessionKey = session->key;
    call->session = std::move(session);
  }
  return call;
}

// Opens a session with a context, or invokes a command of a session.
template <Call::Kind kind, bool sync>
napi_value call(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  std::shared_ptr<Call> call = makeCall<kind>(client, sync);
  if (!call) {
    core::Answer none;
    none.refuse(Status::closed);
    client.answer(none);
    return toNumber(env, 0);
  }
  Bytes bytes[core::kMaxParams];
  const bool good = (kind != Call::Kind::open || readUuids(env, arguments, *call)) &&
                    readCall(env, arguments, *call, bytes);
  if (!sync) return startCall(env, arguments, std::move(call), good);
  if (good) call->context->runSync(call);
  writeCall(env, client, *call, 0, bytes);
  return nullptr;
}

napi_value abort(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  auto aborted = core::Aborted::ended;
  uint64_t index;
  if (arguments.client != nullptr && toUint(getNumber(env, arguments[0]), kMaxSafe, index)) {
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
  Arguments arguments(env, info);
  if (arguments.client == nullptr) return nullptr;
  Client& client = *arguments.client;
  Entry* entry = client.handles.find(getNumber(env, arguments[0]));
  const auto session = entry == nullptr ? nullptr : entry->as<core::Session>();
  if (!session) return toNumber(env, 0);
  client.handles.remove(*entry);
  const auto call = std::make_shared<Call>(Call::Kind::closeSession, session->context, false);
  call->session = session;
  return startCall(env, arguments, call, true);
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
