#include "shared_memory.h"

#include <algorithm>
#include <utility>

#include "context.h"
#include "remains.h"

namespace core {

SharedMemory::SharedMemory(std::shared_ptr<Context> context, TeeShm shm, uint64_t size,
                           std::shared_ptr<Mapping> pages, uint8_t* data, std::shared_ptr<void> keeper)
    : context_(std::move(context)),
      shm_(std::move(shm)),
      size_(size),
      pages_(std::move(pages)),
      data_(data),
      keeper_(std::move(keeper)) {}

SharedMemory::~SharedMemory() {
  Remains::leaveTo(*context_->closer(), {std::move(keeper_), std::move(pages_), std::move(shm_.fd)});
}

Result<std::shared_ptr<SharedMemory>> allocSharedMemory(const std::shared_ptr<Context>& context,
                                                        uint64_t size) {
  TeeShm shm;
  std::shared_ptr<Mapping> pages;
  if (context->registration()) {
    Result<Mapping> own = Mapping::ownPages(size);
    if (!own.ok()) return own.failure();
    pages = std::make_shared<Mapping>(std::move(own.value()));
    Result<TeeShm> registered = withRoom(
        context->temporary(), [&] { return shmRegister(context->fd(), pages->data(), pages->size()); });
    if (!registered.ok()) return registered.failure();
    shm = std::move(registered.value());
  } else {
    Result<TeeShm> allocated = withRoom(context->temporary(), [&] { return shmAlloc(context->fd(), size); });
    if (!allocated.ok()) return allocated.failure();
    shm = std::move(allocated.value());
    Result<Mapping> mapped = Mapping::ofFile(shm.fd.get(), shm.size);
    if (!mapped.ok()) return mapped.failure();
    pages = std::make_shared<Mapping>(std::move(mapped.value()));
  }
  const uint64_t usable = std::min(size, shm.size);
  uint8_t* data = pages->data();
  return std::make_shared<SharedMemory>(context, std::move(shm), usable, std::move(pages), data, nullptr);
}

Result<std::shared_ptr<SharedMemory>> registerSharedMemory(const std::shared_ptr<Context>& context,
                                                           uint8_t* data, uint64_t size,
                                                           std::shared_ptr<void> keeper) {
  Result<TeeShm> shm = withRoom(context->temporary(), [&] { return shmRegister(context->fd(), data, size); });
  if (!shm.ok()) return shm.failure();
  const uint64_t usable = std::min(size, shm.value().size);
  return std::make_shared<SharedMemory>(context, std::move(shm.value()), usable, nullptr, data,
                                        std::move(keeper));
}

Result<std::shared_ptr<SharedMemory>> registerDmaBuf(const std::shared_ptr<Context>& context, int dmaBuf) {
  Result<TeeShm> shm = withRoom([&] { return shmRegisterFd(context->fd(), dmaBuf); });
  if (!shm.ok()) return shm.failure();
  const uint64_t size = shm.value().size;
  return std::make_shared<SharedMemory>(context, std::move(shm.value()), size, nullptr, nullptr, nullptr);
}

}  // namespace core
