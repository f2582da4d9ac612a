// How many calls of this process are in the TEE, or about to be: from their turn until the TEE is done.
#pragma once

#include <atomic>

namespace core {

class InTee {
 public:
  InTee() { count_.fetch_add(1, std::memory_order_relaxed); }
  ~InTee() { count_.fetch_sub(1, std::memory_order_relaxed); }
  InTee(const InTee&) = delete;
  InTee& operator=(const InTee&) = delete;

  static bool any() { return count_.load(std::memory_order_relaxed) != 0; }

 private:
  static inline std::atomic<unsigned> count_{0};
};

}  // namespace core
