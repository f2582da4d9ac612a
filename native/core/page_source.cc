#include "page_source.h"

#include <algorithm>
#include <utility>

#include "memory_limit.h"

namespace core {

namespace {

// The largest piece of physically contiguous memory that the kernel has, MAX_PAGE_ORDER as it comes (4 MiB of
// pages of 4 KiB). Who asks for more gets a warning in the kernel's log, and none of it. Only an OP-TEE that
// cannot register memory has its own, which may be larger.
uint64_t mostContiguous(const uapi::tee_ioctl_version_data& version) {
  const bool own = version.impl_id == uapi::kImplIdOptee && (version.gen_caps & uapi::kGenCapRegMem) == 0;
  return own ? UINT64_MAX : pageSize() * std::max<uint64_t>(1024, pageSize() / 8);
}

}  // namespace

PageSource::PageSource(const uapi::tee_ioctl_version_data& version, bool registration)
    : registers_(registration && (version.gen_caps & uapi::kGenCapRegMem) != 0),
      mostAllocated_(mostContiguous(version)) {}

Result<SharedPages> PageSource::share(int device, uint64_t bytes) const {
  SharedPages shared;
  if (registers_) {
    auto pages = Mapping::ownPages(bytes);
    if (!pages.ok()) return pages.failure();
    shared.pages = std::move(pages.value());
    auto shm = shmRegister(device, shared.pages->data(), shared.pages->size());
    if (!shm.ok()) return shm.failure();
    shared.shm = std::move(shm.value());
  } else {
    if (bytes > mostAllocated_) return Failure{Operation::shmAlloc, ENOMEM};
    if (Failure failure = checkMemory(bytes)) return failure;
    auto shm = shmAlloc(device, bytes);
    if (!shm.ok()) return shm.failure();
    shared.shm = std::move(shm.value());
    auto pages = Mapping::ofFile(shared.shm.fd.get(), shared.shm.size);
    if (!pages.ok()) return pages.failure();
    shared.pages = std::move(pages.value());
  }
  if (shared.shm.size < bytes)
    return Failure{registers_ ? Operation::shmRegister : Operation::shmAlloc, ENOMEM};
  return shared;
}

}  // namespace core
