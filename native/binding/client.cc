#include "client.h"

#include <algorithm>
#include <cstring>

#include "../core/dma.h"
#include "../core/remains.h"
#include "../core/shared_memory.h"

namespace binding {

namespace {

// The longest output that takes the way through shared bytes: a second copy instead of three calls of
// Node-API.
constexpr size_t kSmall = 8192;
constexpr size_t kBytes = 65536;

struct BufferHold {
  std::shared_ptr<core::Mapping> pages;
  std::shared_ptr<core::Threads> closer;
};

void letGoOfBuffer(BufferHold* held) {
  const std::unique_ptr<BufferHold> hold(held);
  core::Remains::leaveTo(*hold->closer, {nullptr, std::move(hold->pages), core::UniqueFd()});
}

// The ArrayBuffer was detached, or it is gone, or whatever it was transferred to.
void onMemoryFinalize(napi_env, void*, void* hint) {
  letGoOfBuffer(static_cast<BufferHold*>(hint));
}

void adjustExternalMemory(napi_env env, int64_t bytes) {
  int64_t now;
  napi_adjust_external_memory(env, bytes, &now);
}

void onDetachedFinalize(napi_env env, void* data, void*) {
  auto* hold = static_cast<BufferHold*>(data);
  adjustExternalMemory(env, -static_cast<int64_t>(hold->pages->size()));
  letGoOfBuffer(hold);
}

// An ArrayBuffer that is about to be detached keeps its pages until it is collected: Node's own threads may
// be reading them (zlib, fs, crypto). They hold the view, but work with the address that it had. The
// collector is told how much it is about.
void keepPages(napi_env env, napi_value buffer, const Entry& entry) {
  std::unique_ptr<BufferHold> hold;
  if (entry.kind == Kind::sharedMemory) {
    const auto* memory = entry.as<core::SharedMemory>();
    hold.reset(new BufferHold{memory->pages(), memory->context()->closer()});
  } else if (entry.kind == Kind::dmaBuf) {
    hold.reset(new BufferHold{entry.as<core::DmaBuf>()->pages(), core::reaper()});
  }
  if (!hold || !hold->pages) return;
  const auto bytes = static_cast<int64_t>(hold->pages->size());
  if (napi_add_finalizer(env, buffer, hold.get(), onDetachedFinalize, nullptr, nullptr) != napi_ok) return;
  hold.release();
  adjustExternalMemory(env, bytes);
}

// Null if it cannot be made. `hold` is then the finalizer's business, which has run already, except where
// external memory is forbidden.
template <typename Hold>
napi_value makeExternal(napi_env env, void* data, size_t length, napi_finalize finalize, Hold* hold) {
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, data, length, finalize, hold, &buffer);
  if (status == napi_ok) return buffer;
  if (status == napi_no_external_buffers_allowed) delete hold;
  bool pending = false;
  napi_value error;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending)
    napi_get_and_clear_last_exception(env, &error);
  return nullptr;
}

void onBytesFinalize(napi_env, void*, void* hint) {
  delete static_cast<std::shared_ptr<uint8_t>*>(hint);
}

}  // namespace

napi_value Client::attach(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok) return nullptr;
  auto* client = new Client(env);
  if (!client->init(argv)) {
    client->detach();
    delete client;
    napi_throw_error(env, nullptr,
                     "attach(packet: Float64Array, records: Float64Array, deliver: function), "
                     "the arrays over SharedArrayBuffers");
    return nullptr;
  }

  Napi::Object functions = Napi::Object::New(env);
  const auto add = [&](const NamedFunction& named) {
    napi_value function;
    if (napi_create_function(env, named.name, NAPI_AUTO_LENGTH, named.function, client, &function) ==
        napi_ok) {
      functions.Set(named.name, function);
    }
  };
  for (const NamedFunction& named : kCallFunctions) add(named);
  for (const NamedFunction& named : kMemoryFunctions) add(named);
  for (const NamedFunction& named : kDeviceFunctions) add(named);

  Napi::Array operations = Napi::Array::New(env);
  for (uint32_t i = 0; i < static_cast<uint32_t>(core::Operation::count); i++) {
    Napi::Object operation = Napi::Object::New(env);
    operation.Set("operation", core::kOperationNames[i].operation);
    operation.Set("syscall", core::kOperationNames[i].syscall);
    operations.Set(i, operation);
  }
  functions.Set("operations", operations);
  functions.Set("bytes", client->makeSharedBytes());
  return functions;
}

bool Client::init(const napi_value* arguments) {
  napi_valuetype type{};
  if (napi_typeof(env_, arguments[2], &type) != napi_ok || type != napi_function) return false;
  if (!packet_.attach(env_, arguments[0], packet::kLength) ||
      !records_.attach(env_, arguments[1], packet::kLength)) {
    return false;
  }
  napi_value name;
  if (napi_create_string_utf8(env_, "node-optee", NAPI_AUTO_LENGTH, &name) != napi_ok) return false;
  if (napi_create_threadsafe_function(env_, arguments[2], nullptr, name, 0, 1, this, onFinalize, this, onWake,
                                      &wake_) != napi_ok) {
    return false;
  }
  napi_unref_threadsafe_function(env_, wake_);
  completions_ = std::make_shared<core::Completions>(wake, this);
  // Hooks run last in, first out: this one before that of the thread-safe function.
  napi_add_env_cleanup_hook(env_, onEnvironmentEnd, this);
  return true;
}

void Client::detach() {
  packet_.detach(env_);
  records_.detach(env_);
}

// Where the runtime forbids external buffers it is empty, and all outputs are arrays of their own.
napi_value Client::makeSharedBytes() {
  napi_value buffer = nullptr, bytes = nullptr;
  const std::shared_ptr<uint8_t> memory(new uint8_t[kBytes](), std::default_delete<uint8_t[]>());
  size_t length = kBytes;
  buffer = makeExternal(env_, memory.get(), length, onBytesFinalize, new std::shared_ptr<uint8_t>(memory));
  if (buffer != nullptr) {
    bytes_ = memory;
  } else {
    length = 0;
    void* none;
    napi_create_arraybuffer(env_, 0, &none, &buffer);
  }
  napi_create_typedarray(env_, napi_uint8_array, length, buffer, 0, &bytes);
  return bytes;
}

bool Client::putBytes(const uint8_t* bytes, size_t length, double& at) {
  if (!bytes_ || length > kSmall || length > kBytes - used_) return false;
  if (length != 0) memcpy(bytes_.get() + used_, bytes, length);
  at = static_cast<double>(used_);
  used_ += length;
  return true;
}

uint32_t Client::enter(core::Call& call) {
  call.id = ++calls_;
  call.completions = completions_;
  if (freeTickets_.empty()) {
    call.ticket = static_cast<uint32_t>(tickets_.size());
    tickets_.push_back(call.id);
  } else {
    call.ticket = freeTickets_.back();
    freeTickets_.pop_back();
    tickets_[call.ticket] = call.id;
  }
  return call.ticket;
}

void Client::returnTicket(uint32_t ticket) {
  tickets_[ticket] = 0;
  freeTickets_.push_back(ticket);
}

void Client::callStarted(napi_env env) {
  if (pending_++ == 0) napi_ref_threadsafe_function(env, wake_);
}

void Client::callsEnded(napi_env env, size_t count) {
  pending_ -= count;
  if (pending_ == 0 && count != 0) napi_unref_threadsafe_function(env, wake_);
}

void Client::addContext(const std::shared_ptr<core::Context>& context) {
  contexts_.erase(std::remove_if(contexts_.begin(), contexts_.end(), [](auto& old) { return old.expired(); }),
                  contexts_.end());
  contexts_.push_back(context);
}

// Also of a session or context whose handle was closed while calls are still queued.
core::Cancelled Client::cancel(napi_env env, uint64_t ticket) {
  const uint64_t call = ticket < tickets_.size() ? tickets_[ticket] : 0;
  if (call == 0) return core::Cancelled::ended;
  for (const std::weak_ptr<core::Context>& weak : contexts_) {
    const std::shared_ptr<core::Context> context = weak.lock();
    if (!context) continue;
    const core::Cancelled cancelled = context->cancel(call);
    if (cancelled == core::Cancelled::removed) {
      returnTicket(static_cast<uint32_t>(ticket));
      callsEnded(env, 1);
    }
    if (cancelled != core::Cancelled::ended) return cancelled;
  }
  return core::Cancelled::ended;
}

void Client::wake(void* self) {
  napi_call_threadsafe_function(static_cast<Client*>(self)->wake_, nullptr, napi_tsfn_nonblocking);
}

void Client::onWake(napi_env env, napi_value function, void* self, void*) {
  if (env != nullptr) static_cast<Client*>(self)->deliver(env, function);
}

void Client::onFinalize(napi_env, void* self, void*) {
  delete static_cast<Client*>(self);
}

// Code that is called from there can have run the event loop itself.
void Client::deliver(napi_env env, napi_value function) {
  again_ = true;
  if (inDeliver_) return;
  inDeliver_ = true;
  while (again_) {
    again_ = false;
    deliverEnded(env, function);
  }
  inDeliver_ = false;
}

void Client::deliverEnded(napi_env env, napi_value function) {
  sweepViews(env);
  completions_->take(ended_);
  const size_t batch = records_.length() / packet::kLength;
  for (size_t from = 0; from < ended_.size(); from += batch) {
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) break;
    const size_t count = std::min(batch, ended_.size() - from);
    napi_value undefined, arguments[2];
    if (napi_get_undefined(env, &undefined) == napi_ok &&
        napi_create_uint32(env, static_cast<uint32_t>(count), &arguments[0]) == napi_ok) {
      napi_value outputs = nullptr;
      forgetBytes();
      delivering_ = true;
      first_ = from;
      for (size_t i = 0; i < count; i++) {
        writeRecord(env, *this, *ended_[from + i], records_.data() + i * packet::kLength, &outputs,
                    static_cast<uint32_t>(i * core::kMaxParams), nullptr);
      }
      callsEnded(env, count);
      arguments[1] = outputs != nullptr ? outputs : undefined;
      if (napi_call_function(env, undefined, function, 2, arguments, nullptr) == napi_pending_exception) {
        napi_value error;
        if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
      }
      delivering_ = false;
      // Not before: code that has just run may have made calls.
      for (size_t i = 0; i < count; i++) {
        returnTicket(ended_[from + i]->ticket);
        ended_[from + i].reset();
      }
    }
    napi_close_handle_scope(env, scope);
  }
  ended_.clear();
}

std::shared_ptr<void> Client::hold(napi_env env, napi_value value) {
  auto view = std::make_unique<View>();
  if (napi_create_reference(env, value, 1, &view->reference) != napi_ok) return nullptr;
  View* held = view.get();
  {
    std::lock_guard<std::mutex> lock(views_->mutex);
    views_->all.push_back(std::move(view));
    views_->held++;
  }
  auto release = [views = views_, completions = completions_](View* released) {
    {
      std::lock_guard<std::mutex> lock(views->mutex);
      released->released = true;
      views->held--;
      views->changed.notify_all();
    }
    completions->wake();
  };
  return std::shared_ptr<View>(held, release);
}

void Client::sweepViews(napi_env env) {
  auto& all = views_->all;
  if (all.empty()) return;  // only this thread adds to it and takes from it
  std::lock_guard<std::mutex> lock(views_->mutex);
  for (size_t i = 0; i < all.size();) {
    if (all[i]->released) {
      napi_delete_reference(env, all[i]->reference);
      all[i] = std::move(all.back());
      all.pop_back();
    } else {
      i++;
    }
  }
}

napi_value Client::bufferOf(napi_env env, Entry& entry, const std::shared_ptr<core::Mapping>& pages,
                            size_t length, const std::shared_ptr<core::Threads>& closer) {
  napi_value buffer = nullptr;
  if (entry.buffer != nullptr) {
    if (napi_get_reference_value(env, entry.buffer, &buffer) == napi_ok && buffer != nullptr) return buffer;
    napi_delete_reference(env, entry.buffer);
    entry.buffer = nullptr;
  }
  buffer = makeExternal(env, pages->data(), length, onMemoryFinalize, new BufferHold{pages, closer});
  if (buffer == nullptr) return nullptr;
  napi_create_reference(env, buffer, 0, &entry.buffer);
  return buffer;
}

void Client::close(napi_env env, Entry& entry) {
  if (entry.buffer != nullptr) {
    napi_value buffer = nullptr;
    if (napi_get_reference_value(env, entry.buffer, &buffer) == napi_ok && buffer != nullptr) {
      keepPages(env, buffer, entry);
      // Fails if it is detached already, transferred for instance.
      napi_detach_arraybuffer(env, buffer);
    }
    napi_delete_reference(env, entry.buffer);
    entry.buffer = nullptr;
  }
  handles.remove(entry);
}

// Threads that are in the TEE finish without the environment: all that they need is held by their calls. Only
// for memory of the environment's own, which the TEE may still write into, has it to be waited.
void Client::onEnvironmentEnd(void* data) {
  auto* self = static_cast<Client*>(data);
  const napi_env env = self->env_;
  self->completions_->close();
  for (Entry& entry : self->handles.entries()) {
    if (entry.buffer != nullptr) napi_delete_reference(env, entry.buffer);
    entry.buffer = nullptr;
    entry.object.reset();
    entry.kind = Kind::none;
  }
  for (const std::weak_ptr<core::Context>& weak : self->contexts_) {
    if (const std::shared_ptr<core::Context> context = weak.lock()) context->abandon();
  }
  self->ended_.clear();
  {
    std::unique_lock<std::mutex> lock(self->views_->mutex);
    self->views_->changed.wait(lock, [self] { return self->views_->held == 0; });
  }
  self->sweepViews(env);
  self->detach();
}

}  // namespace binding
