// Doubles from JavaScript, taken for nothing but what they must be.
#pragma once

#include <node_api.h>

#include <cstdint>

namespace binding {

constexpr double kMaxSafe = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

inline bool toUint(double value, double most, uint64_t& number) {
  if (!(value >= 0 && value <= most)) return false;  // NaN too
  number = static_cast<uint64_t>(value);
  return static_cast<double>(number) == value;
}

inline bool toUint32(double value, uint32_t& number) {
  uint64_t wide;
  if (!toUint(value, 4294967295.0, wide)) return false;
  number = static_cast<uint32_t>(wide);
  return true;
}

inline bool readUint(napi_env env, napi_value value, double most, uint64_t& number) {
  double read;
  return napi_get_value_double(env, value, &read) == napi_ok && toUint(read, most, number);
}

// Any number; -1 for what is none, which is no handle.
inline double readHandle(napi_env env, napi_value value) {
  double read;
  return napi_get_value_double(env, value, &read) == napi_ok ? read : -1;
}

struct Bytes {
  uint8_t* data = nullptr;
  size_t length = 0;
};

// A Uint8Array's bytes, valid until JavaScript runs again. buffer: what it is a view of.
inline bool readBytes(napi_env env, napi_value value, Bytes& bytes, napi_value* buffer = nullptr) {
  napi_typedarray_type type{};
  void* data = nullptr;
  // Answers napi_invalid_arg for anything but a typed array.
  if (napi_get_typedarray_info(env, value, &type, &bytes.length, &data, buffer, nullptr) != napi_ok)
    return false;
  if (type != napi_uint8_array) return false;
  bytes.data = static_cast<uint8_t*>(data);
  if (data == nullptr) bytes.length = 0;  // detached
  return true;
}

// A fresh Uint8Array; null if it cannot be made.
napi_value makeBytes(napi_env env, const uint8_t* data, size_t length);

}  // namespace binding
