// What one copy of lib/client/native.ts has in one environment: handles, calls under way, the arrays for numbers.
// Lives until the environment ends.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "../core/completions.h"
#include "../core/context.h"
#include "../core/mapping.h"
#include "../core/threads.h"
#include "handles.h"
#include "numbers.h"
#include "shared_numbers.h"

namespace binding {

// Indices of packets and records: Packet and Param in lib/client/native.ts.
namespace packet {
constexpr uint32_t kCall = 0;
constexpr uint32_t kHandle = 1;
constexpr uint32_t kNumber = 2;
constexpr uint32_t kFlags = 3;
constexpr uint32_t kStatus = 4;
constexpr uint32_t kDetail = 5;
constexpr uint32_t kResult = 6;
constexpr uint32_t kOrigin = 7;
constexpr uint32_t kCount = 8;
constexpr uint32_t kParams = 9;
constexpr uint32_t kLength = 25;

constexpr uint32_t kKind = 0;
constexpr uint32_t kA = 1;
constexpr uint32_t kB = 2;
constexpr uint32_t kMemory = 3;
constexpr uint32_t kStride = 4;

// What a new shared memory says, in the place of the parameters: MemoryAnswer in lib/client/native.ts.
constexpr uint32_t kShmId = 9;
constexpr uint32_t kShmFd = 10;
constexpr uint32_t kShmSize = 11;
}  // namespace packet

class Client {
 public:
  // The object with all functions, or an empty value and a pending exception.
  static napi_value attach(napi_env env, napi_callback_info info);

  Handles handles;

  double* packet() const { return packet_.data(); }
  // Copies a small output to where JavaScript finds it at once. False if there is no room.
  bool putBytes(const uint8_t* bytes, size_t length, double& at);
  // What was put there before has been taken, but for records that are being delivered.
  void forgetBytes() {
    if (!delivering_) used_ = 0;
  }
  // A call whose record JavaScript is being told of; null if there is none.
  const core::Call* delivered(uint64_t record) const {
    return delivering_ && record < ended_.size() - first_ ? ended_[first_ + record].get() : nullptr;
  }
  // Gives a call its ticket, and has its record delivered. Tickets are small, and used again.
  uint32_t enter(core::Call& call);
  void returnTicket(uint32_t ticket);
  // Asynchronous calls keep the event loop alive.
  void callStarted(napi_env env);
  void callsEnded(napi_env env, size_t count);

  void addContext(const std::shared_ptr<core::Context>& context);
  core::Cancelled cancel(napi_env env, uint64_t ticket);

  // Something that lets a view's memory live until its last copy is gone, which may be on any thread and
  // after the environment: the environment's end waits for it.
  std::shared_ptr<void> hold(napi_env env, napi_value view);

  // An ArrayBuffer over pages, the same one as long as it is alive; null where there can be none.
  napi_value bufferOf(napi_env env, Entry& entry, const std::shared_ptr<core::Mapping>& pages, size_t length,
                      const std::shared_ptr<core::Threads>& closer);
  // Detaches the buffer, if there is one, and forgets the handle.
  void close(napi_env env, Entry& entry);

 private:
  // Views that the TEE writes into.
  struct View {
    napi_ref reference = nullptr;
    bool released = false;
  };
  struct Views {
    std::vector<std::unique_ptr<View>> all;  // only the environment's thread adds and takes
    std::mutex mutex;                        // guards the rest, and what `released` says
    std::condition_variable changed;
    size_t held = 0;
  };

  explicit Client(napi_env env) : env_(env) {}

  static void wake(void* self);
  static void onWake(napi_env env, napi_value, void* self, void*);
  static void onEnvironmentEnd(void* self);
  static void onFinalize(napi_env, void* self, void*);

  bool init(const napi_value* arguments);
  napi_value makeSharedBytes();
  void detach();
  void deliver(napi_env env, napi_value function);
  void deliverEnded(napi_env env, napi_value function);
  void sweepViews(napi_env env);

  const napi_env env_;
  SharedNumbers packet_;
  SharedNumbers records_;
  // JavaScript reads it through an ArrayBuffer, and shares it, should somebody have transferred that.
  std::shared_ptr<uint8_t> bytes_;
  size_t used_ = 0;  // of bytes_
  bool inDeliver_ = false;
  bool again_ = false;
  bool delivering_ = false;
  size_t first_ = 0;  // of ended_: the one that has the first record
  napi_threadsafe_function wake_ = nullptr;
  std::shared_ptr<core::Completions> completions_;
  std::shared_ptr<Views> views_ = std::make_shared<Views>();
  std::vector<std::weak_ptr<core::Context>> contexts_;
  std::vector<std::unique_ptr<core::Call>> ended_;
  uint64_t calls_ = 0;
  std::vector<uint64_t> tickets_{0};  // the call that has it; 0 is none
  std::vector<uint32_t> freeTickets_;
  size_t pending_ = 0;
};

// Writes a call's record; its outputs into `outputs` (made if it is null and there are any) from `first` on,
// or, while the caller waits, into `own`, its own bytes.
void writeRecord(napi_env env, Client& client, core::Call& call, double* record, napi_value* outputs,
                 uint32_t first, const Bytes* own);

// A function's client and its arguments; those that were not given are undefined.
template <size_t count>
struct Arguments {
  napi_value values[count];
  Client* client = nullptr;

  Arguments(napi_env env, napi_callback_info info) {
    size_t argc = count;
    void* data = nullptr;
    if (napi_get_cb_info(env, info, &argc, values, nullptr, &data) == napi_ok)
      client = static_cast<Client*>(data);
  }
};

inline napi_value number(napi_env env, double value) {
  napi_value result = nullptr;
  napi_create_double(env, value, &result);
  return result;
}

// The shorter way for what is a whole number already.
inline napi_value unsignedNumber(napi_env env, uint32_t value) {
  napi_value result = nullptr;
  napi_create_uint32(env, value, &result);
  return result;
}

using Function = napi_value (*)(napi_env env, napi_callback_info info);
struct NamedFunction {
  const char* name;
  Function function;
};
extern const NamedFunction kCallFunctions[7];
extern const NamedFunction kMemoryFunctions[12];
extern const NamedFunction kDeviceFunctions[5];

}  // namespace binding
