// Memory that is registered with the TEE under a handle of the user's.
#pragma once

#include <memory>

#include "mapping.h"
#include "tee.h"

namespace core {

class Context;

class SharedMemory {
 public:
  // owner: keeps memory alive that is not ours; it is let go of after the registration has ended.
  SharedMemory(std::shared_ptr<Context> context, TeeShm shm, uint64_t size, std::shared_ptr<Mapping> pages,
               uint8_t* data, std::shared_ptr<void> owner);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  const std::shared_ptr<Context>& context() const { return context_; }
  int32_t id() const { return shm_.id; }
  int fd() const { return shm_.fd.get(); }
  uint64_t size() const { return size_; }
  // Null if the CPU cannot reach it.
  uint8_t* data() const { return data_; }
  // Ours, if they are.
  const std::shared_ptr<Mapping>& pages() const { return pages_; }
  bool contains(uint64_t offset, uint64_t length) const {
    return offset <= size_ && length <= size_ - offset;
  }

 private:
  const std::shared_ptr<Context> context_;
  TeeShm shm_;
  const uint64_t size_;
  std::shared_ptr<Mapping> pages_;
  uint8_t* const data_;
  std::shared_ptr<void> owner_;
};

// Each can block. EBADF of `open`: the context is closed.
Result<std::shared_ptr<SharedMemory>> allocSharedMemory(const std::shared_ptr<Context>& context,
                                                        uint64_t size);
Result<std::shared_ptr<SharedMemory>> registerSharedMemory(const std::shared_ptr<Context>& context,
                                                           uint8_t* data, uint64_t size,
                                                           std::shared_ptr<void> owner);
Result<std::shared_ptr<SharedMemory>> registerDmaBuf(const std::shared_ptr<Context>& context, int dmaBuf);

}  // namespace core
