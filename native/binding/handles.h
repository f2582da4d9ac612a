// Handles are numbers: the slot of a table and its generation, which changes with each use of the slot. The
// table knows what kind of object a handle is, so nothing is unwrapped that was not checked.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

namespace core {
class Context;
class DmaBuf;
class DmaHeap;
class Session;
class SharedMemory;
}  // namespace core

namespace binding {

struct Entry {
  uint32_t generation = 0;
  std::variant<std::monostate, std::shared_ptr<core::Context>, std::shared_ptr<core::Session>,
               std::shared_ptr<core::SharedMemory>, std::shared_ptr<core::DmaHeap>,
               std::shared_ptr<core::DmaBuf>>
      object;

  // Null if it is of another kind.
  template <typename T>
  std::shared_ptr<T> as() const {
    const auto* found = std::get_if<std::shared_ptr<T>>(&object);
    return found == nullptr ? nullptr : *found;
  }
};

class Handles {
 public:
  // 0 if there is no room for another one.
  template <typename T>
  double add(std::shared_ptr<T> object) {
    size_t slot = entries_.size();
    if (!free_.empty()) {
      slot = free_.back();
      free_.pop_back();
    } else if (slot < kSlots) {
      entries_.emplace_back();
    } else {
      return 0;
    }
    Entry& entry = entries_[slot];
    if (++entry.generation == 0) entry.generation = 1;
    entry.object = std::move(object);
    return static_cast<double>(slot) + static_cast<double>(entry.generation) * kSlots;
  }

  // Null if it is not, or no longer, a handle of any kind.
  Entry* find(double handle) {
    if (!(handle >= kSlots && handle < 9007199254740992.0)) return nullptr;
    const auto number = static_cast<uint64_t>(handle);
    if (static_cast<double>(number) != handle) return nullptr;
    const uint64_t slot = number % kSlots;
    if (slot >= entries_.size()) return nullptr;
    Entry& entry = entries_[slot];
    return entry.object.index() != 0 && entry.generation == number / kSlots ? &entry : nullptr;
  }

  template <typename T>
  std::shared_ptr<T> get(double handle) {
    const Entry* entry = find(handle);
    return entry == nullptr ? nullptr : entry->as<T>();
  }

  void remove(Entry& entry) {
    // What it holds is let go of when the table is in order again.
    const auto object = std::exchange(entry.object, {});
    free_.push_back(static_cast<uint32_t>(&entry - entries_.data()));
  }

  std::vector<Entry>& entries() { return entries_; }

 private:
  static constexpr uint32_t kSlots = 1u << 20;

  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
};

}  // namespace binding
