// Compiled into a variant of the addon, for tests only: it answers as Node-API does in a runtime that does
// not allow buffers over memory from outside (Electron, and Node.js with V8's sandbox).
#include <js_native_api.h>

napi_status napi_create_external_arraybuffer(napi_env, void*, size_t, napi_finalize, void*, napi_value*) {
  return napi_no_external_buffers_allowed;
}
