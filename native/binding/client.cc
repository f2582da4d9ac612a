#include "client.h"

#include <algorithm>
#include <utility>

#include "../core/dma.h"
#include "../core/shared_memory.h"
#include "values.h"

namespace binding {

namespace {

// A Float64Array over a SharedArrayBuffer, whose memory can neither move nor be detached.
bool isRecords(const Napi::Value& value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    return false;
  const auto array = value.As<Napi::Float64Array>();
  return !array.ArrayBuffer().IsArrayBuffer() && array.ElementLength() >= core::Place::length;
}

}  // namespace

// attach(records, deliver, mostBytes)
Napi::Value Client::attach(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!isRecords(info[0]) || !info[1].IsFunction() || !info[2].IsNumber()) {
    Napi::TypeError::New(
        env, "attach(records: Float64Array over a SharedArrayBuffer, deliver: function, mostBytes: number)")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto* client = new Client(env, info[0].As<Napi::Float64Array>(), info[1].As<Napi::Function>(),
                            info[2].As<Napi::Number>().DoubleValue());
  Napi::Object functions = Napi::Object::New(env);
  addCallFunctions(functions, *client);
  addContextFunctions(functions, *client);
  addMemoryFunctions(functions, *client);

  Napi::Array operations = Napi::Array::New(env);
  for (uint32_t i = 0; i < static_cast<uint32_t>(core::Operation::count); i++) {
    Napi::Object operation = Napi::Object::New(env);
    operation.Set("operation", core::kOperationNames[i].operation);
    operation.Set("syscall", core::kOperationNames[i].syscall);
    operations.Set(i, operation);
  }
  functions.Set("operations", operations);
  return functions;
}

Client::Client(Napi::Env env, Napi::Float64Array records, Napi::Function deliver, double mostBytes)
    : buffers(mostBytes),
      env_(env),
      recordsReference_(Napi::Persistent(records)),
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
  freeTickets_.push_back(ticket);
  if (--pending_ == 0) wake_.Unref(env_);
}

void Client::addContext(const std::shared_ptr<core::Context>& context) {
  contexts_.erase(std::remove_if(contexts_.begin(), contexts_.end(), [](auto& old) { return old.expired(); }),
                  contexts_.end());
  contexts_.push_back(context);
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
  for (Entry& entry : self->handles.entries()) entry = {};
  for (Ticket& ticket : self->tickets_) {
    if (ticket.call) ticket.call->context->drop(ticket.call);
    ticket = {};
  }
  for (const std::weak_ptr<core::Context>& weak : self->contexts_) {
    if (const std::shared_ptr<core::Context> context = weak.lock()) context->close(nullptr);
  }
  self->views.wait();
  self->views.sweep();
  self->recordsReference_.Reset();
}

}  // namespace binding
