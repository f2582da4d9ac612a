// What one copy of lib/client/native.ts has in one environment: handles, jobs under way, answers. Lives until
// the environment ends.
#pragma once

#include <napi.h>

#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "../core/completions.h"
#include "../core/context.h"
#include "../core/make_job.h"
#include "buffers.h"
#include "handles.h"
#include "shared_views.h"

namespace binding {

// A job under way. JavaScript knows it by its index, a small number that is used again.
struct Ticket {
  std::shared_ptr<core::Job> job;
  std::shared_ptr<core::Call> call;      // the job, if it is one
  std::shared_ptr<core::MakeJob> make;   // likewise
  napi_ref into[core::kMaxParams] = {};  // the caller's own bytes that outputs of a call go into
};

// Where a number of a request is. param: which parameter's.
constexpr size_t placeOf(core::RequestPlace place, size_t param = 0) {
  constexpr size_t kStride = size_t(core::RequestPlace::next) - size_t(core::RequestPlace::kind);
  return size_t(place) + param * kStride;
}

class Client {
 public:
  // The addon's one function: an object with all others.
  static Napi::Value attach(const Napi::CallbackInfo& info);

  Handles handles;
  Buffers buffers;
  SharedViews views;

  // A number of the call that is being made.
  double request(core::RequestPlace place, size_t param = 0) const { return request_[placeOf(place, param)]; }
  // An answer's numbers. The first one is that of what ends at once; those of a delivery follow, so nothing
  // that is called in the middle of one writes there.
  double* record(size_t index = 0) const { return records_ + index * core::Place::length; }
  size_t batch() const { return recordCount_ - 1; }
  // Puts a new array where lib/ looks for a parameter's output.
  void setOutput(size_t record, size_t param, napi_value array) const;

  void answer(const core::Answer& answer, size_t record = 0);
  void fail(core::Failure failure, size_t record = 0);
  // The addon was misused: lib/ checks what a user can get wrong.
  void badArgument(uint32_t index);
  // All is well. made: a handle, or 0; data: what describes it.
  void describe(double made, std::initializer_list<double> data, size_t record = 0);
  // Gives a new object its handle.
  template <typename T>
  void add(std::shared_ptr<T> object, std::initializer_list<double> data, size_t record = 0) {
    const double handle = handles.add(std::move(object));
    if (handle == 0) return fail({core::Operation::handle, EMFILE}, record);
    describe(handle, data, record);
  }
  void add(core::Made made, size_t record = 0);

  // Gives a job its ticket, and has its end told.
  uint32_t enter(Ticket ticket);
  // Null if there is no such job.
  Ticket* find(uint64_t ticket);
  // Takes the ticket back.
  void leave(uint32_t ticket);
  std::vector<std::shared_ptr<core::Job>> takeEnded() { return completions_->take(); }
  const std::shared_ptr<core::Completions>& completions() const { return completions_; }

  // Detaches the buffer, if there is one, and forgets the handle.
  void close(Entry& entry);

 private:
  static void onWake(Napi::Env env, Napi::Function deliver, Client* client, void*);
  using Wake = Napi::TypedThreadSafeFunction<Client, void, onWake>;

  Client(Napi::Env env, Napi::Float64Array request, Napi::Float64Array records, Napi::Array outputs,
         Napi::Function deliver, double mostBytes);
  static void wake(void* self);
  static void onEnvironmentEnd(Client* self);

  const Napi::Env env_;
  Napi::Reference<Napi::Float64Array> requestReference_;
  Napi::Reference<Napi::Float64Array> recordsReference_;
  Napi::Reference<Napi::Array> outputs_;
  const double* const request_;
  double* const records_;
  const size_t recordCount_;
  Wake wake_;
  std::shared_ptr<core::Completions> completions_;
  std::vector<Ticket> tickets_{1};  // 0 is none
  std::vector<uint32_t> freeTickets_;
  size_t pending_ = 0;
};

inline Client& clientOf(const Napi::CallbackInfo& info) {
  return *static_cast<Client*>(info.Data());
}

template <auto function>
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
