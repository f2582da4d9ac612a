#include "dma.h"

#include <fcntl.h>
#include <unistd.h>

#include "memory_limit.h"
#include "release.h"
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
  UniqueFd adopted = UniqueFd::adopt(fd);
  if (!adopted.valid()) return Failure{Operation::adopt, EBUSY};
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return std::make_shared<DmaBuf>(std::move(adopted), static_cast<uint64_t>(size));
}

DmaBuf::~DmaBuf() {
  release({nullptr, std::move(pages_), std::move(fd_)});
}

Result<std::shared_ptr<Mapping>> DmaBuf::map() {
  if (!pages_) {
    auto mapped = Mapping::ofFile(fd_.get(), size_);
    if (!mapped.ok()) return mapped.failure();
    pages_ = std::move(mapped.value());
  }
  return pages_;
}

Result<std::shared_ptr<DmaHeap>> DmaHeap::open(const std::string& path) {
  Result<UniqueFd> fd = openFile(path.c_str(), O_RDONLY);
  if (!fd.ok()) return fd.failure();
  const bool system = path.compare(path.rfind('/') + 1, 6, "system") == 0;
  return std::make_shared<DmaHeap>(std::move(fd.value()), system);
}

Result<std::shared_ptr<DmaBuf>> DmaHeap::alloc(uint64_t size) {
  if (system_) {
    if (Failure failure = checkMemory(size)) return failure;
  }
  Result<UniqueFd> fd = withRoom([&] { return dmaHeapAlloc(fd_.get(), size); });
  if (!fd.ok()) return fd.failure();
  return DmaBuf::own(std::move(fd.value()));
}

}  // namespace core
