#include "dma.h"

#include <fcntl.h>
#include <unistd.h>

#include "remains.h"
#include "tee.h"

namespace core {

Result<std::shared_ptr<DmaBuf>> DmaBuf::own(UniqueFd fd) {
  const off_t size = lseek(fd.get(), 0, SEEK_END);
  if (size < 0) return Failure::last(Operation::lseek);
  return std::make_shared<DmaBuf>(std::move(fd), static_cast<uint64_t>(size));
}

Result<std::shared_ptr<DmaBuf>> DmaBuf::adopt(int fd, bool own) {
  if (!own) {
    UniqueFd duplicate(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!duplicate.valid()) return Failure::last(Operation::dup);
    return DmaBuf::own(std::move(duplicate));
  }
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0) return Failure::last(Operation::lseek);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return std::make_shared<DmaBuf>(UniqueFd(fd), static_cast<uint64_t>(size));
}

DmaBuf::~DmaBuf() {
  Remains::leaveTo(*reaper(), {nullptr, std::move(pages_), std::move(fd_)});
}

Result<std::shared_ptr<Mapping>> DmaBuf::map() {
  if (!pages_) {
    Result<Mapping> mapping = Mapping::ofFile(fd_.get(), size_);
    if (!mapping.ok()) return mapping.failure();
    pages_ = std::make_shared<Mapping>(std::move(mapping.value()));
  }
  return pages_;
}

Result<std::shared_ptr<DmaHeap>> DmaHeap::open(const char* path) {
  Result<UniqueFd> fd = openFile(path, O_RDONLY);
  if (!fd.ok()) return fd.failure();
  return std::make_shared<DmaHeap>(std::move(fd.value()));
}

Result<std::shared_ptr<DmaBuf>> DmaHeap::alloc(uint64_t size) {
  Result<UniqueFd> fd = withRoom([&] { return dmaHeapAlloc(fd_.get(), size); });
  if (!fd.ok()) return fd.failure();
  return DmaBuf::own(std::move(fd.value()));
}

}  // namespace core
