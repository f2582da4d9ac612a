#include "mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include "memory_limit.h"
#include "unique_fd.h"

namespace core {

size_t pageSize() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

size_t wholePages(uint64_t bytes) {
  const size_t page = pageSize();
  if (bytes > SIZE_MAX - page) return 0;
  return bytes == 0 ? page : (bytes + page - 1) / page * page;
}

Result<std::shared_ptr<Mapping>> Mapping::ownPages(uint64_t bytes) {
  const size_t size = wholePages(bytes);
  if (size == 0) return Failure{Operation::memfdCreate, ENOMEM};
  if (Failure failure = checkMemory(size)) return failure;
  UniqueFd fd(memfd_create("node-optee", MFD_CLOEXEC));
  if (!fd.valid()) return Failure::last(Operation::memfdCreate);
  if (ftruncate(fd.get(), static_cast<off_t>(size)) < 0) return Failure::last(Operation::ftruncate);
  return ofFile(fd.get(), size);
}

Result<std::shared_ptr<Mapping>> Mapping::ofFile(int fd, uint64_t bytes) {
  const size_t size = wholePages(bytes);
  if (size == 0) return Failure{Operation::mmap, ENOMEM};
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return Failure::last(Operation::mmap);
  // What is shared with a TEE has no place in a core dump. (Where this fails, it is in there, as all else.)
  madvise(data, size, MADV_DONTDUMP);
  return std::make_shared<Mapping>(static_cast<uint8_t*>(data), size);
}

Mapping::~Mapping() {
  munmap(data_, size_);
}

// Where it fails, the pages just stay until the addresses go.
void Mapping::discard() {
  mmap(data_, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

}  // namespace core
