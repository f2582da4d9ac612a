// Memory that we map, always MAP_SHARED: private pages and fork do not go together with pages that another
// world writes into.
#pragma once

#include <cstddef>
#include <cstdint>

#include "result.h"

namespace core {

size_t pageSize();
// Up to whole pages; at least one. 0 if that is more than a size_t holds.
size_t wholePages(uint64_t bytes);

// The TEE pins what it is given, so a size that the machine cannot hold would end in the kernel's OOM killer
// and not in an error.
uint64_t mostBytes();

class Mapping {
 public:
  // Pages of our own, zeroed: a memfd named node-optee, whose descriptor is closed again.
  static Result<Mapping> ownPages(uint64_t bytes);
  static Result<Mapping> ofFile(int fd, uint64_t bytes);

  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  Mapping(uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace core
