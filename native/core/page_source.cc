#include "page_source.h"

#include <algorithm>
#include <utility>

#include "memory_limit.h"

namespace core {

namespace {

constexpr bool canRegister(const uapi::tee_ioctl_version_data& version) {
  return (version.gen_caps & uapi::kGenCapRegMem) != 0;
}

Result<SharedPages> registered(int device, uint64_t bytes, IdleMemory& idle) {
  auto pages = Mapping::ownPages(bytes);
  if (!pages.ok()) return pages.failure();
  const Mapping& own = *pages.value();
  auto shm = withRoom(idle, [&] { return shmRegister(device, own.data(), own.size()); });
  if (!shm.ok()) return shm.failure();
  return SharedPages{std::move(pages.value()), std::move(shm.value())};
}

}  // namespace

PageSource::PageSource(const uapi::tee_ioctl_version_data& version, bool registration)
    : registers_(registration && canRegister(version)),
      reserved_(version.impl_id == uapi::kImplIdOptee && !canRegister(version)) {}

// A block of the order MAX_PAGE_ORDER, if the kernel was configured with arm64's default for its pages (of 4,
// 16 and 64 KiB). Who asks for more gets a warning in the kernel's log, and no memory.
uint64_t PageSource::mostContiguous() {
  return pageSize() * std::max<uint64_t>(1024, pageSize() / 8);
}

Result<SharedPages> PageSource::newPages(int device, uint64_t bytes, IdleMemory& idle) const {
  auto made = registers_ ? registered(device, bytes, idle) : allocated(device, bytes, idle);
  if (made.ok() && made.value().shm.size < bytes)
    return Failure{registers_ ? Operation::shmRegister : Operation::shmAlloc, ENOMEM};
  return made;
}

Result<SharedPages> PageSource::allocated(int device, uint64_t bytes, IdleMemory& idle) const {
  if (!reserved_) {
    if (bytes > mostContiguous()) return Failure{Operation::shmAlloc, ENOMEM};
    // The driver's memory is nobody's, so no cgroup has it.
    if (Failure failure = checkMachine(bytes)) return failure;
  }
  auto shm = withRoom(idle, [&] { return shmAlloc(device, bytes); });
  if (!shm.ok()) return shm.failure();
  auto pages = Mapping::ofFile(shm.value().fd.get(), shm.value().size);
  if (!pages.ok()) return pages.failure();
  return SharedPages{std::move(pages.value()), std::move(shm.value())};
}

}  // namespace core
