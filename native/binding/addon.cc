// The module's entry.
#include <napi.h>

#if defined(__linux__) && defined(__LP64__)

#include "client.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("attach", Napi::Function::New<binding::Client::attach>(env, "attach"));
  return exports;
}

}  // namespace

#else

// Where there is no Linux there is no /dev/tee, and sizes of 32 bits are not provided for: every function
// answers so.
#include <cerrno>

namespace {

Napi::Value noDevice(const Napi::CallbackInfo& info) {
  Napi::Object failure = Napi::Object::New(info.Env());
  failure.Set("operation", "open");
  failure.Set("syscall", "open");
  failure.Set("errno", ENOSYS);
  return failure;
}

Napi::Value attach(const Napi::CallbackInfo& info) {
  Napi::Object functions = Napi::Object::New(info.Env());
  for (const char* name : {"openContext", "openDmaHeap", "describeDescriptor", "adoptDmaBuf"}) {
    functions.Set(name, Napi::Function::New<noDevice>(info.Env(), name));
  }
  functions.Set("operations", Napi::Array::New(info.Env()));
  return functions;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("attach", Napi::Function::New<attach>(env, "attach"));
  return exports;
}

}  // namespace

#endif

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init)
