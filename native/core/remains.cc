#include "remains.h"

#include <utility>

namespace core {

namespace {

void letGo(void* what) {
  auto* remains = static_cast<Remains*>(what);
  remains->fd.reset();
  remains->pages.reset();
  delete remains;
}

}  // namespace

void Remains::leaveTo(Threads& threads, Remains remains) {
  auto* left = new Remains(std::move(remains));
  if (threads.post({letGo, left}) != 0) letGo(left);
}

const std::shared_ptr<Threads>& reaper() {
  static const auto* threads = new std::shared_ptr<Threads>(std::make_shared<Threads>("optee-close", 1));
  return *threads;
}

}  // namespace core
