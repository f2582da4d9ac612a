#include "executor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "../../native/core/tee.h"

namespace executor {

namespace {

std::mutex mutex;
std::condition_variable changed;
std::vector<std::string> entries;
std::set<uint32_t> cancelled;
bool released = false;
std::set<std::string> blocked;
uint32_t sessions = 0;
unsigned inside = 0;
unsigned mostInside = 0;
unsigned refused = 0;
bool refusesCancels = false;
uint64_t longest = UINT64_MAX;
// What is registered, by its descriptor, which is its id as well.
std::map<int, uint8_t*> memories;

void note(const std::string& entry) {
  entries.push_back(entry);
  changed.notify_all();
}

void waitWhileBlocked(std::unique_lock<std::mutex>& lock, const char* what) {
  changed.wait(lock, [what] { return blocked.count(what) == 0; });
}

struct Inside {
  Inside() { mostInside = std::max(mostInside, ++inside); }
  ~Inside() { inside--; }
};

}  // namespace

void reset() {
  std::lock_guard<std::mutex> lock(mutex);
  entries.clear();
  cancelled.clear();
  released = false;
  mostInside = inside;
}

std::vector<std::string> log() {
  std::lock_guard<std::mutex> lock(mutex);
  return entries;
}

void waitFor(const std::string& entry) {
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return std::find(entries.begin(), entries.end(), entry) != entries.end(); });
}

void release() {
  std::lock_guard<std::mutex> lock(mutex);
  released = true;
  changed.notify_all();
}

void block(const std::string& what) {
  std::lock_guard<std::mutex> lock(mutex);
  blocked.insert(what);
}

void unblock(const std::string& what) {
  std::lock_guard<std::mutex> lock(mutex);
  blocked.erase(what);
  changed.notify_all();
}

void refuseRegistrations(unsigned count) {
  std::lock_guard<std::mutex> lock(mutex);
  refused = count;
}

void refuseCancels(bool refuses) {
  std::lock_guard<std::mutex> lock(mutex);
  refusesCancels = refuses;
}

void limitRegistrations(uint64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  longest = bytes;
}

unsigned most() {
  std::lock_guard<std::mutex> lock(mutex);
  return mostInside;
}

}  // namespace executor

namespace core {

using namespace executor;

Result<UniqueFd> openFile(const char*, int) {
  return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
}

Result<uapi::tee_ioctl_version_data> version(int) {
  uapi::tee_ioctl_version_data data{};
  data.impl_id = uapi::kImplIdOptee;
  data.gen_caps = uapi::kGenCapRegMem;
  return data;
}

Result<TeeShm> shmAlloc(int, uint64_t size) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (refused != 0) {
      refused--;
      return Failure{Operation::shmAlloc, ENOMEM};
    }
    size = std::min(size, longest);
  }
  UniqueFd fd(open("/dev/zero", O_RDWR | O_CLOEXEC));
  return TeeShm{std::move(fd), 1, size};
}

Result<TeeShm> shmRegister(int device, const void* address, uint64_t length) {
  if (fcntl(device, F_GETFD) < 0) return Failure::last(Operation::shmRegister);
  {
    std::unique_lock<std::mutex> lock(mutex);
    note("register");
    waitWhileBlocked(lock, "register");
    if (refused != 0) {
      refused--;
      return Failure{Operation::shmRegister, ENOMEM};
    }
    length = std::min(length, longest);
  }
  UniqueFd fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  const int id = fd.get();
  std::lock_guard<std::mutex> lock(mutex);
  memories[id] = static_cast<uint8_t*>(const_cast<void*>(address));
  return TeeShm{std::move(fd), id, length};
}

Result<TeeShm> shmRegisterFd(int, int dmaBuf) {
  const off_t size = lseek(dmaBuf, 0, SEEK_END);
  if (size < 0) return Failure{Operation::shmRegisterFd, EINVAL};
  return TeeShm{UniqueFd(fcntl(dmaBuf, F_DUPFD_CLOEXEC, 0)), 1, static_cast<uint64_t>(size)};
}
bool hasShmRegisterFd(int) {
  return true;
}

Failure openSession(int device, OpenSessionMessage& message) {
  if (fcntl(device, F_GETFD) < 0) return Failure::last(Operation::openSession);
  std::unique_lock<std::mutex> lock(mutex);
  Inside in;
  message.arg.session = ++sessions;
  note("open " + std::to_string(message.arg.session));
  waitWhileBlocked(lock, "open");
  return {};
}

Failure invoke(int device, InvokeMessage& message) {
  // The descriptor must live as long as any call uses it.
  if (fcntl(device, F_GETFD) < 0) return Failure::last(Operation::invoke);
  std::unique_lock<std::mutex> lock(mutex);
  Inside in;
  const uint32_t session = message.arg.session;
  const uint32_t command = message.arg.func;
  note("invoke " + std::to_string(session) + " " + std::to_string(command));
  changed.wait(lock, [&] {
    return (command != kBlock && command != kBlockCancellable) || released ||
           (command == kBlockCancellable && cancelled.count(session) != 0);
  });
  waitWhileBlocked(lock, "invoke");
  // Like OP-TEE: the flag is the session's and goes with a call's return.
  if (cancelled.erase(session) != 0 && command != kBlock) message.arg.ret = kCancelled;
  if (command == kCancelsItself) message.arg.ret = kCancelled;
  if (command == kNotSent) return {Operation::invoke, EIO};
  for (uint32_t i = 0; command == kWrites && i < message.arg.num_params; i++) {
    uapi::tee_ioctl_param& param = message.params[i];
    if (param.attr < uapi::kParamMemrefOutput) continue;
    if (param.c != uapi::kMemrefNull)
      memset(memories.at(static_cast<int>(param.c)) + param.a, kOutput, param.b);
    param.b = kWritten;
  }
  return {};
}

int cancel(int device, uint32_t session) {
  if (fcntl(device, F_GETFD) < 0) return errno;
  std::unique_lock<std::mutex> lock(mutex);
  const bool refuse = refusesCancels;
  note("cancel " + std::to_string(session));
  if (!refuse) cancelled.insert(session);
  changed.notify_all();
  waitWhileBlocked(lock, "cancel");
  note("cancelled " + std::to_string(session));
  return refuse ? EIO : 0;
}

Failure closeSession(int device, uint32_t session) {
  if (fcntl(device, F_GETFD) < 0) return Failure::last(Operation::closeSession);
  std::unique_lock<std::mutex> lock(mutex);
  Inside in;
  note("close " + std::to_string(session));
  waitWhileBlocked(lock, "close");
  return {};
}

Result<UniqueFd> dmaHeapAlloc(int, uint64_t size) {
  UniqueFd fd(memfd_create("dma-buf", MFD_CLOEXEC));
  if (ftruncate(fd.get(), static_cast<off_t>(size)) < 0) return Failure::last(Operation::dmaHeapAlloc);
  return fd;
}
Failure dmaBufSync(int, uint64_t) {
  return {};
}

}  // namespace core
