// dma-heaps and dma-bufs.
#pragma once

#include <memory>
#include <string>

#include "mapping.h"
#include "result.h"
#include "unique_fd.h"

namespace core {

class DmaBuf {
 public:
  // Takes the descriptor over. Its size is what lseek to the end says.
  static Result<std::shared_ptr<DmaBuf>> own(UniqueFd fd);
  // own: of this very descriptor (only if it succeeds; EBUSY of `adopt` if it has another owner in this
  // process), else of a duplicate.
  static Result<std::shared_ptr<DmaBuf>> adopt(int fd, bool own);

  DmaBuf(UniqueFd fd, uint64_t size) : fd_(std::move(fd)), size_(size) {}
  ~DmaBuf();
  DmaBuf(const DmaBuf&) = delete;
  DmaBuf& operator=(const DmaBuf&) = delete;

  int fd() const { return fd_.get(); }
  uint64_t size() const { return size_; }
  // Null if it was never mapped.
  const std::shared_ptr<Mapping>& pages() const { return pages_; }
  // The same mapping each time.
  Result<std::shared_ptr<Mapping>> map();

 private:
  UniqueFd fd_;
  const uint64_t size_;
  std::shared_ptr<Mapping> pages_;
};

class DmaHeap {
 public:
  static Result<std::shared_ptr<DmaHeap>> open(const std::string& path);
  DmaHeap(UniqueFd fd, bool system) : fd_(std::move(fd)), system_(system) {}
  // Can block.
  Result<std::shared_ptr<DmaBuf>> alloc(uint64_t size);

 private:
  UniqueFd fd_;
  const bool system_;  // takes its buffers from the machine's memory, as far as that goes
};

}  // namespace core
