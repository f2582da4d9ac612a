// Plain objects for the functions that are not on the hot path.
#pragma once

#include <napi.h>

#include <cerrno>
#include <string>

#include "../core/result.h"
#include "client.h"
#include "numbers.h"

namespace binding {

// Failure in lib/client/native.ts.
inline napi_value makeFailure(napi_env env, const std::string& operation, const char* syscall, int error) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("operation", operation);
  object.Set("syscall", syscall);
  object.Set("errno", error);
  return object;
}

inline napi_value makeFailure(napi_env env, core::Failure failure) {
  const core::OperationName& name = core::kOperationNames[static_cast<size_t>(failure.operation)];
  return makeFailure(env, name.operation, name.syscall, failure.error);
}

// The addon was misused: lib/ checks what a user can get wrong.
inline napi_value badArgument(napi_env env, const char* name) {
  return makeFailure(env, std::string("argument ") + name, "", EINVAL);
}

inline napi_value noHandleLeft(napi_env env) {
  return makeFailure(env, "handle", "", EMFILE);
}

inline napi_value undefined(napi_env env) {
  return Napi::Env(env).Undefined();
}

inline Client& clientOf(const Napi::CallbackInfo& info) {
  return *static_cast<Client*>(info.Data());
}

inline bool readFd(napi_env env, napi_value value, int& fd) {
  uint64_t number;
  if (!readUint(env, value, 2147483647.0, number)) return false;
  fd = static_cast<int>(number);
  return true;
}

inline bool readPath(const Napi::CallbackInfo& info, size_t index, std::string& path) {
  if (!info[index].IsString()) return false;
  path = info[index].As<Napi::String>().Utf8Value();
  return !path.empty() && path.find('\0') == std::string::npos;
}

// A function of napi.h's kind for the table.
template <napi_value (*function)(const Napi::CallbackInfo&)>
napi_value wrap(napi_env env, napi_callback_info info) {
  return function(Napi::CallbackInfo(env, info));
}

}  // namespace binding
