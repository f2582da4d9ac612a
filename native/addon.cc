// The module's entry.
#if defined(__linux__) && defined(__LP64__)

#include "binding/client.h"

namespace {

napi_value init(napi_env env, napi_value exports) {
  napi_value attach;
  if (napi_create_function(env, "attach", NAPI_AUTO_LENGTH, binding::Client::attach, nullptr, &attach) ==
      napi_ok) {
    napi_set_named_property(env, exports, "attach", attach);
  }
  return exports;
}

}  // namespace

#else

// Where there is no Linux there is no /dev/tee, and sizes of 32 bits are not provided for: every function
// answers so.
#include <napi.h>

#include <cerrno>

namespace {

napi_value noDevice(napi_env env, napi_callback_info) {
  Napi::Object failure = Napi::Object::New(env);
  failure.Set("operation", "open");
  failure.Set("syscall", "open");
  failure.Set("errno", ENOSYS);
  return failure;
}

napi_value attach(napi_env env, napi_callback_info) {
  Napi::Object functions = Napi::Object::New(env);
  for (const char* name : {"openContext", "openDmaHeap", "describeDescriptor", "adoptDmaBuf"}) {
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, noDevice, nullptr, &function) == napi_ok) {
      functions.Set(name, function);
    }
  }
  functions.Set("operations", Napi::Array::New(env));
  return functions;
}

napi_value init(napi_env env, napi_value exports) {
  napi_value function;
  if (napi_create_function(env, "attach", NAPI_AUTO_LENGTH, attach, nullptr, &function) == napi_ok) {
    napi_set_named_property(env, exports, "attach", function);
  }
  return exports;
}

}  // namespace

#endif

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
