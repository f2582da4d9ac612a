// Stands in the place of the ioctls (core/tee.h), so that what the core does before, between and after them
// can be run on any machine and under sanitizers. It knows nothing of a TEE: it writes down what is asked of
// it and returns when it is told to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace executor {

// A command that returns when release() is called, or, if it is the cancellable one, when it is cancelled.
constexpr uint32_t kBlock = 100;
constexpr uint32_t kBlockCancellable = 101;
// One that ends so without any CANCEL.
constexpr uint32_t kCancelsItself = 102;
// One that the kernel does not send: EIO.
constexpr uint32_t kNotSent = 103;
// One that fills its outputs with kOutput, and says that it has written so much.
constexpr uint32_t kWrites = 104;
constexpr uint8_t kOutput = 9;
constexpr uint64_t kWritten = 5000;

constexpr uint32_t kCancelled = 0xFFFF0002;

// Empties the log; blocked calls block again.
void reset();
// What was asked since, in order: "open 1", "invoke 1 7", "cancel 1", "close 1", "register".
std::vector<std::string> log();
// Waits until that is in the log.
void waitFor(const std::string& entry);
// Lets all blocked calls return, and those to come.
void release();
// What begins with that word in the log ("open", "invoke", "cancel", "close", "register") does not return
// before unblock().
void block(const std::string& what);
void unblock(const std::string& what);
// The next registrations and allocations fail with ENOMEM, so many.
void refuseRegistrations(unsigned count);
// From now on CANCEL fails, or does not.
void refuseCancels(bool refuse);
// The next registrations and allocations have so many bytes at most, as the kernel may do.
void limitRegistrations(uint64_t bytes);
// How many calls are in the executor at once, at most, since reset().
unsigned most();

}  // namespace executor
