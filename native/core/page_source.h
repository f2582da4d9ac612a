// Where a context gets the pages that it shares with the TEE: our own, registered, or those of the TEE's
// driver.
#pragma once

#include <cstdint>
#include <memory>

#include "mapping.h"
#include "tee.h"

namespace core {

struct SharedPages {
  TeeShm shm;
  std::shared_ptr<Mapping> pages;
};

class PageSource {
 public:
  // registration: SHM_REGISTER where the TEE can, else SHM_ALLOC.
  PageSource(const uapi::tee_ioctl_version_data& version, bool registration);

  // Zeroed pages for at least so many bytes. Can block.
  Result<SharedPages> share(int device, uint64_t bytes) const;

 private:
  const bool registers_;
  const uint64_t mostAllocated_;
};

}  // namespace core
