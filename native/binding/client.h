// What one copy of lib/client/native.ts has in one environment: handles, jobs under way, records. Lives until
// the environment ends.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "../core/completions.h"
#include "../core/context.h"
#include "buffers.h"
#include "handles.h"
#include "shared_views.h"

namespace binding {

// Makes shared memory or a dma-buf.
class MemoryJob : public core::Job {
 public:
  // On the JavaScript thread, when it has run: the handle and its description, or a Failure.
  virtual Napi::Value describe(Napi::Env env) = 0;
};

// A job under way. JavaScript knows it by its index, a small number that is used again.
struct Ticket {
  std::shared_ptr<core::Job> job;
  std::shared_ptr<core::Call> call;      // the job, if it is one
  std::shared_ptr<MemoryJob> memory;     // likewise
  napi_ref into[core::kMaxParams] = {};  // the caller's own bytes that outputs of a call go into
};

class Client {
 public:
  // The addon's one function: an object with all others.
  static Napi::Value attach(const Napi::CallbackInfo& info);

  Handles handles;
  Buffers buffers;
  SharedViews views;

  // Where answers are written, Place::length numbers each.
  double* record(size_t index) const { return records_ + index * core::Place::length; }
  size_t batch() const { return recordCount_; }

  // Gives a job its ticket, and has its end told.
  uint32_t enter(Ticket ticket);
  // Null if there is no such job.
  Ticket* find(uint64_t ticket);
  // Takes the ticket back.
  void leave(uint32_t ticket);
  std::vector<std::shared_ptr<core::Job>> takeEnded() { return completions_->take(); }
  const std::shared_ptr<core::Completions>& completions() const { return completions_; }

  void addContext(const std::shared_ptr<core::Context>& context);
  // Detaches the buffer, if there is one, and forgets the handle.
  void close(Entry& entry);

 private:
  static void onWake(Napi::Env env, Napi::Function deliver, Client* client, void*);
  using Wake = Napi::TypedThreadSafeFunction<Client, void, onWake>;

  Client(Napi::Env env, Napi::Float64Array records, Napi::Function deliver, double mostBytes);
  static void wake(void* self);
  static void onEnvironmentEnd(Client* self);

  const Napi::Env env_;
  Napi::Reference<Napi::Float64Array> recordsReference_;
  double* const records_;
  const size_t recordCount_;
  Wake wake_;
  std::shared_ptr<core::Completions> completions_;
  std::vector<std::weak_ptr<core::Context>> contexts_;
  std::vector<Ticket> tickets_{1};  // 0 is none
  std::vector<uint32_t> freeTickets_;
  size_t pending_ = 0;
};

inline Client& clientOf(const Napi::CallbackInfo& info) {
  return *static_cast<Client*>(info.Data());
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void addFunction(Napi::Object functions, Client& client, const char* name) {
  functions.Set(name, Napi::Function::New<function>(functions.Env(), name, &client));
}

// Each file's functions.
void addCallFunctions(Napi::Object functions, Client& client);
void addContextFunctions(Napi::Object functions, Client& client);
void addMemoryFunctions(Napi::Object functions, Client& client);

// Writes the records of jobs that have ended, and has JavaScript read them.
void deliver(napi_env env, Client& client, napi_value function);
// Does the environment end, so that no JavaScript can run any more?
bool isEnding(napi_env env);
// A fresh Uint8Array; null if there is no memory for it.
napi_value makeBytes(napi_env env, const uint8_t* data, size_t length);

}  // namespace binding
