// Values from JavaScript, taken for nothing but what they must be, and values for it.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

namespace binding {

constexpr double kMaxSafe = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER
constexpr double kMaxUint32 = 4294967295.0;

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

}  // namespace binding
