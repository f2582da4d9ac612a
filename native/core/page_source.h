// Where a context gets the pages that it shares with the TEE: its own, registered, or those of the TEE's
// driver.
#pragma once

#include <cstdint>
#include <memory>

#include "mapping.h"
#include "release.h"
#include "tee.h"

namespace core {

struct SharedPages {
  // The last reference to memory of the driver's can be its mapping, so that goes after the descriptor.
  std::shared_ptr<Mapping> pages;
  TeeShm shm;
};

class PageSource {
 public:
  // registration: SHM_REGISTER where the TEE can, else SHM_ALLOC.
  PageSource(const uapi::tee_ioctl_version_data& version, bool registration);

  // Zeroed pages for at least so many bytes. Can block. idle: makes room where the TEE has none.
  Result<SharedPages> newPages(int device, uint64_t bytes, IdleMemory& idle) const;

  // How many bytes the kernel can have in one contiguous piece.
  static uint64_t mostContiguous();

 private:
  Result<SharedPages> allocated(int device, uint64_t bytes, IdleMemory& idle) const;

  const bool registers_;
  // The driver has a part of the memory for it. Otherwise it asks the kernel.
  const bool reserved_;
};

}  // namespace core
