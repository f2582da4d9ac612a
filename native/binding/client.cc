#include "client.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "values.h"

namespace binding {

namespace {

// A Float64Array over a SharedArrayBuffer, whose memory can neither move nor be detached.
bool isNumbers(const Napi::Value& value, size_t least) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    return false;
  const auto array = value.As<Napi::Float64Array>();
  return !array.ArrayBuffer().IsArrayBuffer() && array.ElementLength() >= least;
}

}  // namespace

// Addon.attach in lib/client/native.ts.
Napi::Value Client::attach(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!isNumbers(info[0], placeOf(core::RequestPlace::length)) ||
      !isNumbers(info[1], 2 * core::Place::length) || !info[2].IsArray() || !info[3].IsFunction() ||
      !info[4].IsNumber()) {
    Napi::TypeError::New(env,
                         "attach(request: Float64Array over a SharedArrayBuffer, records: likewise, outputs: "
                         "array, deliver: function, mostBytes: number)")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto* client =
      new Client(env, info[0].As<Napi::Float64Array>(), info[1].As<Napi::Float64Array>(),
                 info[2].As<Napi::Array>(), info[3].As<Napi::Function>(), info[4].As<Napi::Number>());
  Napi::Object functions = Napi::Object::New(env);
  addCallFunctions(functions, *client);
  addContextFunctions(functions, *client);
  addMemoryFunctions(functions, *client);
  return functions;
}

Client::Client(Napi::Env env, Napi::Float64Array request, Napi::Float64Array records, Napi::Array outputs,
               Napi::Function deliver, double mostBytes)
    : buffers(mostBytes),
      env_(env),
      requestReference_(Napi::Persistent(request)),
      recordsReference_(Napi::Persistent(records)),
      outputs_(Napi::Reference<Napi::Array>::New(outputs, 1)),
      request_(request.Data()),
      records_(records.Data()),
      recordCount_(records.ElementLength() / core::Place::length),
      completions_(std::make_shared<core::Completions>(wake, this)) {
  wake_ = Wake::New(
      env, deliver, "node-optee", 0, 1, this, [](Napi::Env, void*, Client* client) { delete client; },
      static_cast<void*>(nullptr));
  wake_.Unref(env);
  // Hooks run last in, first out: this one before that of the thread-safe function.
  env.AddCleanupHook(onEnvironmentEnd, this);
}

// No setter on a prototype can run: lib/ has put something at each index, and arrays have no prototype there.
void Client::setOutput(size_t record, size_t param, napi_value array) const {
  napi_set_element(env_, outputs_.Value(), static_cast<uint32_t>(record * core::kMaxParams + param), array);
}

void Client::answer(const core::Answer& answer, size_t record) {
  double* to = this->record(record);
  to[core::Place::status] = answer.status;
  to[core::Place::detail] = answer.detail;
  to[core::Place::result] = answer.result;
  to[core::Place::origin] = answer.origin;
  to[core::Place::flags] = answer.flags;
  to[core::Place::made] = 0;
}

void Client::fail(core::Failure failure, size_t record) {
  core::Answer failed;
  failed.fail(failure);
  answer(failed, record);
}

void Client::badArgument(uint32_t index) {
  core::Answer refused;
  refused.refuse(core::Status::argument, index);
  answer(refused);
}

void Client::describe(double made, std::initializer_list<double> data, size_t record) {
  answer({}, record);
  double* to = this->record(record);
  to[core::Place::made] = made;
  std::copy(data.begin(), data.end(), to + core::Place::data);
}

void Client::add(core::Made made, size_t record) {
  if (const auto* failure = std::get_if<core::Failure>(&made)) return fail(*failure, record);
  if (const auto* memory = std::get_if<std::shared_ptr<core::SharedMemory>>(&made)) {
    const core::SharedMemory& all = **memory;
    return add(*memory, {double(all.id()), double(all.fd()), double(all.size())}, record);
  }
  const auto& buf = std::get<std::shared_ptr<core::DmaBuf>>(made);
  add(buf, {0, double(buf->fd()), double(buf->size())}, record);
}

uint32_t Client::enter(Ticket ticket) {
  uint32_t index = static_cast<uint32_t>(tickets_.size());
  if (freeTickets_.empty()) {
    tickets_.emplace_back();
  } else {
    index = freeTickets_.back();
    freeTickets_.pop_back();
  }
  ticket.job->ticket = index;
  ticket.job->completions = completions_;
  tickets_[index] = std::move(ticket);
  // Jobs under way keep the event loop alive.
  if (pending_++ == 0) wake_.Ref(env_);
  return index;
}

Ticket* Client::find(uint64_t ticket) {
  return ticket < tickets_.size() && tickets_[ticket].job ? &tickets_[ticket] : nullptr;
}

void Client::leave(uint32_t ticket) {
  // What it holds is let go of when the table is in order again.
  const Ticket left = std::exchange(tickets_[ticket], {});
  for (napi_ref own : left.into) {
    if (own != nullptr) napi_delete_reference(env_, own);
  }
  freeTickets_.push_back(ticket);
  if (--pending_ == 0) wake_.Unref(env_);
}

void Client::wake(void* self) {
  static_cast<Client*>(self)->wake_.NonBlockingCall();
}

void Client::onWake(Napi::Env env, Napi::Function function, Client* client, void*) {
  if (static_cast<napi_env>(env) != nullptr) deliver(env, *client, function);
}

void Client::close(Entry& entry) {
  std::shared_ptr<core::Mapping> pages;
  if (const auto memory = entry.as<core::SharedMemory>()) pages = memory->pages();
  if (const auto buf = entry.as<core::DmaBuf>()) pages = buf->pages();
  if (pages) buffers.close(pages);
  handles.remove(entry);
}

// Threads that are in the TEE finish without the environment: all that they need is held by their calls. Only
// for memory of the environment's own, which the TEE may still write into, has it to be waited.
void Client::onEnvironmentEnd(Client* self) {
  self->completions_->close();
  std::vector<std::shared_ptr<core::Context>> contexts;
  for (Entry& entry : self->handles.entries()) {
    if (auto context = entry.as<core::Context>()) contexts.push_back(std::move(context));
    entry = {};
  }
  std::map<std::shared_ptr<core::Context>, std::vector<std::shared_ptr<core::Call>>> calls;
  for (const Ticket& ticket : self->tickets_) {
    if (ticket.call) calls[ticket.call->context].push_back(ticket.call);
  }
  for (const auto& [context, all] : calls) context->drop(all);
  calls.clear();
  for (Ticket& ticket : self->tickets_) {
    if (ticket.make) core::makers()->remove(*ticket.make);
    ticket = {};
  }
  for (const auto& context : contexts) context->close(nullptr);
  self->views.wait();
  self->views.sweep();
  self->requestReference_.Reset();
  self->recordsReference_.Reset();
  self->outputs_.Reset();
}

}  // namespace binding
