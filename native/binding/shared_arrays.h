// Typed arrays of lib/native.ts through which numbers and bytes go both ways without a call of Node-API for
// each.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace binding {

// A Float64Array or Uint8Array over a SharedArrayBuffer, whose memory can neither move nor be detached.
template <typename T>
class SharedArray {
 public:
  // False if the value is anything else, or shorter.
  bool attach(napi_env env, napi_value value, size_t least) {
    constexpr napi_typedarray_type wanted =
        std::is_same<T, double>::value ? napi_float64_array : napi_uint8_array;
    napi_typedarray_type type{};
    void* data = nullptr;
    napi_value buffer = nullptr;
    bool movable = true;
    if (napi_get_typedarray_info(env, value, &type, &length_, &data, &buffer, nullptr) != napi_ok ||
        napi_is_arraybuffer(env, buffer, &movable) != napi_ok) {
      return false;
    }
    if (type != wanted || movable || data == nullptr || length_ < least) return false;
    data_ = static_cast<T*>(data);
    return napi_create_reference(env, value, 1, &reference_) == napi_ok;
  }

  void detach(napi_env env) {
    if (reference_ != nullptr) napi_delete_reference(env, reference_);
    reference_ = nullptr;
  }

  T* data() const { return data_; }
  size_t length() const { return length_; }

 private:
  T* data_ = nullptr;
  size_t length_ = 0;
  napi_ref reference_ = nullptr;
};

}  // namespace binding
