// Memory that we map, always MAP_SHARED: private pages and fork do not go together with pages that another
// world writes into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "result.h"

namespace core {

size_t pageSize();
// Up to whole pages; at least one. 0 if that is more than a size_t holds.
size_t wholePages(uint64_t bytes);

class Mapping {
 public:
  // Pages of our own, zeroed: a memfd named node-optee, whose descriptor is closed again.
  static Result<std::shared_ptr<Mapping>> ownPages(uint64_t bytes);
  static Result<std::shared_ptr<Mapping>> ofFile(int fd, uint64_t bytes);

  Mapping(uint8_t* data, size_t size) : data_(data), size_(size) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

  // Gives the pages back while the addresses stay: a thread of Node's that still reads there sees zeroes.
  void discard();

 private:
  uint8_t* const data_;
  const size_t size_;
};

}  // namespace core
