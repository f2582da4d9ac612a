// What a system call that can fail gives back: a value, or which operation failed and its errno.
#pragma once

#include <cerrno>
#include <utility>

#include "protocol.h"

namespace core {

struct Failure {
  Operation operation = Operation::none;
  int error = 0;

  explicit operator bool() const { return error != 0; }
  static Failure last(Operation operation) { return {operation, errno}; }
};

template <typename T>
class Result {
 public:
  Result(Failure failure) : failure_(failure) {}
  Result(T value) : value_(std::move(value)) {}

  bool ok() const { return !failure_; }
  Failure failure() const { return failure_; }
  T& value() { return value_; }

 private:
  T value_{};
  Failure failure_;
};

}  // namespace core
