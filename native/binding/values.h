// Values from JavaScript, taken for nothing but what they must be, and values for it.
#pragma once

#include <napi.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "../core/result.h"

namespace binding {

constexpr double kMaxSafe = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

inline bool toUint(double value, double most, uint64_t& number) {
  if (!(value >= 0 && value <= most)) return false;  // NaN too
  number = static_cast<uint64_t>(value);
  return static_cast<double>(number) == value;
}

inline bool readUint(const Napi::Value& value, double most, uint64_t& number) {
  return value.IsNumber() && toUint(value.As<Napi::Number>().DoubleValue(), most, number);
}

// -1, which is no handle, for what is no number.
inline double readHandle(const Napi::Value& value) {
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
}

inline bool readFd(const Napi::Value& value, int& fd) {
  uint64_t number;
  if (!readUint(value, 2147483647.0, number)) return false;
  fd = static_cast<int>(number);
  return true;
}

inline bool readPath(const Napi::Value& value, std::string& path) {
  if (!value.IsString()) return false;
  path = value.As<Napi::String>().Utf8Value();
  return !path.empty() && path.find('\0') == std::string::npos;
}

// The bytes of a Uint8Array, valid until JavaScript runs again.
struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

inline bool readBytes(const Napi::Value& value, Bytes& bytes) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    return false;
  auto array = value.As<Napi::Uint8Array>();
  bytes.data = array.Data();
  bytes.length = bytes.data == nullptr ? 0 : array.ByteLength();  // detached
  return true;
}

// Failure in lib/client/native.ts.
inline Napi::Value makeFailure(Napi::Env env, const std::string& operation, const char* syscall, int error) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("operation", operation);
  object.Set("syscall", syscall);
  object.Set("errno", error);
  return object;
}

inline Napi::Value makeFailure(Napi::Env env, core::Failure failure) {
  const core::OperationName& name = core::kOperationNames[static_cast<size_t>(failure.operation)];
  return makeFailure(env, name.operation, name.syscall, failure.error);
}

// The addon was misused: lib/ checks what a user can get wrong.
inline Napi::Value badArgument(Napi::Env env, const char* name) {
  return makeFailure(env, std::string("argument ") + name, "", EINVAL);
}

}  // namespace binding
