#include "memory_limit.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "mapping.h"

namespace core {

namespace {

constexpr uint64_t kLookAt = 1 << 20;
// Of the whole that must stay free: the kernel and other programs need some, too.
constexpr uint64_t kReserve = 16;

// Empty where there is no such file.
std::string readFile(const std::string& path) {
  std::string text;
  FILE* file = fopen(path.c_str(), "re");
  if (file == nullptr) return text;
  char part[4096];
  for (size_t count; (count = fread(part, 1, sizeof(part), file)) != 0;) text.append(part, count);
  fclose(file);
  return text;
}

// The number at the beginning of a text; false if there is none ("max").
bool parse(const char* text, uint64_t& number) {
  char* end = nullptr;
  number = strtoull(text, &end, 10);
  return end != text;
}

// The number behind a name that begins a line.
bool find(const std::string& text, const char* name, uint64_t& number) {
  const size_t length = strlen(name);
  for (size_t line = 0; line < text.size();) {
    if (text.compare(line, length, name) == 0) return parse(text.c_str() + line + length, number);
    const size_t end = text.find('\n', line);
    if (end == std::string::npos) break;
    line = end + 1;
  }
  return false;
}

bool roomInMachine(const std::string& root, uint64_t bytes) {
  const std::string text = readFile(root + "/proc/meminfo");
  uint64_t total, available;
  if (!find(text, "MemTotal:", total) || !find(text, "MemAvailable:", available)) return true;
  return bytes / 1024 + total / kReserve <= available;
}

// Where a version of cgroups has its numbers. Each counts the groups within a group, too.
struct Groups {
  const char* folder;
  const char* limit;
  const char* usage;
  const char* cached[2];
};
constexpr Groups kVersion1{"/sys/fs/cgroup/memory",
                           "/memory.limit_in_bytes",
                           "/memory.usage_in_bytes",
                           {"total_inactive_file ", "total_active_file "}};
constexpr Groups kVersion2{
    "/sys/fs/cgroup", "/memory.max", "/memory.current", {"inactive_file ", "active_file "}};

bool roomInGroup(const Groups& groups, const std::string& folder, uint64_t bytes) {
  uint64_t most, used, cached = 0;
  if (!parse(readFile(folder + groups.limit).c_str(), most) ||
      !parse(readFile(folder + groups.usage).c_str(), used))
    return true;
  if (most >= uint64_t{1} << 60) return true;  // version 1's way to say that there is none
  const std::string statistics = readFile(folder + "/memory.stat");
  for (const char* name : groups.cached) {
    uint64_t file;
    if (find(statistics, name, file)) cached += file;
  }
  used -= std::min(used, cached);
  return bytes + most / kReserve <= most - std::min(used, most);
}

// Each limit from this process's cgroup up to the root. In a container its own group is the root of what is
// mounted.
bool roomInGroups(const std::string& root, uint64_t bytes) {
  const std::string groups = readFile(root + "/proc/self/cgroup");
  for (size_t from = 0, end; (end = groups.find('\n', from)) != std::string::npos; from = end + 1) {
    const std::string line = groups.substr(from, end - from);
    // "0::/path" of version 2, "4:memory:/path" of version 1
    const size_t controllers = line.find(':') + 1;
    const size_t path = line.find(':', controllers) + 1;
    if (controllers == 0 || path == 0) continue;
    const std::string names = line.substr(controllers, path - 1 - controllers);
    const bool second = names.empty();
    if (!second && names != "memory") continue;
    const Groups& version = second ? kVersion2 : kVersion1;
    const std::string top = root + version.folder;
    std::string group = line.substr(path);
    while (!group.empty() && group != "/") {
      if (!roomInGroup(version, top + group, bytes)) return false;
      group.resize(group.rfind('/'));
    }
    if (!roomInGroup(version, top, bytes)) return false;
  }
  return true;
}

// How many bytes to look for; 0 while all small requests since the last look come to less than is worth one.
uint64_t toLookFor(uint64_t bytes) {
  static std::atomic<uint64_t> unchecked{0};
  if (bytes < kLookAt && unchecked.fetch_add(bytes) + bytes < kLookAt) return 0;
  unchecked = 0;
  return std::max(bytes, kLookAt);
}

}  // namespace

Failure checkMemory(uint64_t bytes, const std::string& root) {
  const uint64_t least = toLookFor(bytes);
  if (least == 0) return {};
  if (!roomInMachine(root, least)) return {Operation::memAvailable, ENOMEM};
  if (!roomInGroups(root, least)) return {Operation::memoryCgroup, ENOMEM};
  return {};
}

Failure checkMachine(uint64_t bytes) {
  const uint64_t least = toLookFor(bytes);
  if (least != 0 && !roomInMachine("", least)) return {Operation::memAvailable, ENOMEM};
  return {};
}

Failure checkMemoryOf(const void* data, uint64_t bytes) {
  const size_t page = pageSize();
  const uintptr_t from = reinterpret_cast<uintptr_t>(data) / page * page;
  const size_t pages = wholePages(reinterpret_cast<uintptr_t>(data) + bytes - from) / page;
  std::vector<unsigned char> resident(pages);
  if (mincore(reinterpret_cast<void*>(from), pages * page, resident.data()) < 0) return {};
  const auto absent =
      std::count_if(resident.begin(), resident.end(), [](auto bits) { return (bits & 1) == 0; });
  return checkMemory(static_cast<uint64_t>(absent) * page);
}

}  // namespace core
