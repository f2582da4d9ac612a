// Typed arrays of lib/client/native.ts through which numbers and bytes go both ways without a call of Node-API for
// each.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>

namespace binding {

// A Float64Array over a SharedArrayBuffer, whose memory can neither move nor be detached.
class SharedNumbers {
 public:
  // False if the value is anything else, or shorter.
  bool attach(napi_env env, napi_value value, size_t least) {
    napi_typedarray_type type{};
    void* data = nullptr;
    napi_value buffer = nullptr;
    bool movable = true;
    if (napi_get_typedarray_info(env, value, &type, &length_, &data, &buffer, nullptr) != napi_ok ||
        napi_is_arraybuffer(env, buffer, &movable) != napi_ok) {
      return false;
    }
    if (type != napi_float64_array || movable || data == nullptr || length_ < least) return false;
    data_ = static_cast<double*>(data);
    return napi_create_reference(env, value, 1, &reference_) == napi_ok;
  }

  void detach(napi_env env) {
    if (reference_ != nullptr) napi_delete_reference(env, reference_);
    reference_ = nullptr;
  }

  double* data() const { return data_; }
  size_t length() const { return length_; }

 private:
  double* data_ = nullptr;
  size_t length_ = 0;
  napi_ref reference_ = nullptr;
};

}  // namespace binding
