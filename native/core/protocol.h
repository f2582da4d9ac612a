// The numbers that cross the seam: each enum has its twin of the same name in lib/client/native.ts, and a
// test compares them.
#pragma once

#include <cstdint>

namespace core {

// How a call ended. A positive number is an errno.
enum Status : int32_t {
  answered = 0,
  closed = -1,
  argument = -2,
  sharedMemoryClosed = -3,
  otherContext = -4,
  outOfBounds = -5,
  bytesChanged = -6,
};

// A parameter: the kernel's TEE_IOCTL_PARAM_ATTR_TYPE_* in the low three bits, where its memory is above
// them.
enum class ParamKind : uint32_t {
  none = 0,
  valueIn = 1,
  valueOut = 2,
  valueInout = 3,
  temporaryIn = 5,
  temporaryOut = 6,
  temporaryInout = 7,
  intoOut = 0x0e,
  inPlace = 0x0f,
  nullIn = 0x15,
  nullOut = 0x16,
  nullInout = 0x17,
  sharedIn = 0x25,
  sharedOut = 0x26,
  sharedInout = 0x27,
};

enum RequestFlags : uint32_t {
  wipe = 1,
};

// What a system call was for.
enum class Operation : uint32_t {
  none = 0,
  open = 1,
  version = 2,
  shmAlloc = 3,
  shmRegister = 4,
  shmRegisterFd = 5,
  openSession = 6,
  invoke = 7,
  closeSession = 8,
  malloc = 9,
  memAvailable = 10,
  memoryCgroup = 11,
  memfdCreate = 12,
  ftruncate = 13,
  mmap = 14,
  thread = 15,
  dup = 16,
  adopt = 17,
  lseek = 18,
  dmaHeapAlloc = 19,
  dmaBufSync = 20,
  handle = 21,
};

// What an answer says of its session's flag of cancellation.
enum AnswerFlags : uint32_t {
  staleCancel = 1,
  cancelPending = 2,
};

// What an abort did.
enum class Aborted : uint32_t {
  ended = 0,
  removed = 1,
  requested = 2,
};

// Where in a request's numbers what is; those of the first parameter are followed by the others'.
enum class RequestPlace : uint32_t {
  handle = 0,
  number = 1,
  flags = 2,
  count = 3,
  kind = 4,
  a = 5,
  b = 6,
  memory = 7,
  next = 8,
  length = 20,
};

// Where in an answer's numbers what is.
enum Place : uint32_t {
  ticket = 0,
  status = 1,
  detail = 2,
  result = 3,
  origin = 4,
  flags = 5,
  made = 6,
  data = 7,
  length = 15,
};

}  // namespace core
