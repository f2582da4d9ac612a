// The module's entry.
#include <napi.h>

#if defined(__linux__) && defined(__LP64__)

#include "client.h"

namespace {

Napi::Value attach(const Napi::CallbackInfo& info) {
  return binding::Client::attach(info);
}

}  // namespace

#else

// Where there is no Linux there is no /dev/tee, and sizes of 32 bits are not provided for: every function
// answers so.
#include <cerrno>

#include "../core/protocol.h"

namespace {

void noDevice(const Napi::CallbackInfo& info) {
  auto* record = static_cast<double*>(info.Data());
  record[core::Place::status] = ENOSYS;
  record[core::Place::detail] = static_cast<double>(core::Operation::open);
}

Napi::Value attach(const Napi::CallbackInfo& info) {
  // lib/ keeps it as long as the functions.
  double* record = info[1].As<Napi::Float64Array>().Data();
  Napi::Object functions = Napi::Object::New(info.Env());
  for (const char* name : {"openContext", "openDmaHeap", "adoptDmaBuf"}) {
    functions.Set(name, Napi::Function::New<noDevice>(info.Env(), name, record));
  }
  return functions;
}

}  // namespace

#endif

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("attach", Napi::Function::New<attach>(env, "attach"));
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init)
