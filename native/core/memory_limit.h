// Is there so much memory? The TEE pins the pages that it shares, which nothing can swap out: without a look
// before, a request beyond what there is would end in the kernel's OOM killer and not in an error.
#pragma once

#include <cstdint>
#include <string>

#include "result.h"

namespace core {

// Fails with ENOMEM and Operation::memAvailable or Operation::memoryCgroup, whichever has no room for so many
// bytes. Small requests are looked at together. root: where /proc and /sys are, for tests.
Failure checkMemory(uint64_t bytes, const std::string& root = "");

// The same for memory that no cgroup is charged for: fails with Operation::memAvailable only.
Failure checkMachine(uint64_t bytes);

// As checkMemory for memory of which a part is in use already.
Failure checkMemoryOf(const void* data, uint64_t bytes);

}  // namespace core
