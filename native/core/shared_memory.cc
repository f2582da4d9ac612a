#include "shared_memory.h"

#include <algorithm>
#include <utility>

#include "context.h"
#include "memory_limit.h"
#include "release.h"

namespace core {

namespace {

constexpr Failure kClosed{Operation::open, EBADF};

}  // namespace

SharedMemory::SharedMemory(std::shared_ptr<Context> context, TeeShm shm, uint64_t size,
                           std::shared_ptr<Mapping> pages, uint8_t* data, std::shared_ptr<void> owner)
    : context_(std::move(context)),
      shm_(std::move(shm)),
      size_(size),
      pages_(std::move(pages)),
      data_(data),
      owner_(std::move(owner)) {}

SharedMemory::~SharedMemory() {
  release({std::move(owner_), std::move(pages_), std::move(shm_.fd)});
}

Result<std::shared_ptr<SharedMemory>> allocSharedMemory(const std::shared_ptr<Context>& context,
                                                        uint64_t size) {
  const std::shared_ptr<UniqueFd> device = context->use();
  if (!device) return kClosed;
  auto made = context->temporary().newPages(device->get(), size);
  if (!made.ok()) return made.failure();
  auto& [pages, shm] = made.value();
  uint8_t* data = pages->data();
  return std::make_shared<SharedMemory>(context, std::move(shm), size, std::move(pages), data, nullptr);
}

Result<std::shared_ptr<SharedMemory>> registerSharedMemory(const std::shared_ptr<Context>& context,
                                                           uint8_t* data, uint64_t size,
                                                           std::shared_ptr<void> owner) {
  const std::shared_ptr<UniqueFd> device = context->use();
  if (!device) return kClosed;
  if (Failure failure = checkMemoryOf(data, size)) return failure;
  Result<TeeShm> shm = withRoom(context->temporary(), [&] { return shmRegister(device->get(), data, size); });
  if (!shm.ok()) return shm.failure();
  const uint64_t usable = std::min(size, shm.value().size);
  return std::make_shared<SharedMemory>(context, std::move(shm.value()), usable, nullptr, data,
                                        std::move(owner));
}

Result<std::shared_ptr<SharedMemory>> registerDmaBuf(const std::shared_ptr<Context>& context, int dmaBuf) {
  const std::shared_ptr<UniqueFd> device = context->use();
  if (!device) return kClosed;
  Result<TeeShm> shm = withRoom([&] { return shmRegisterFd(device->get(), dmaBuf); });
  if (!shm.ok()) return shm.failure();
  const uint64_t size = shm.value().size;
  return std::make_shared<SharedMemory>(context, std::move(shm.value()), size, nullptr, nullptr, nullptr);
}

}  // namespace core
