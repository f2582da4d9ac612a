// The making of shared memory or of a dma-buf, away from the thread that asks for it.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <variant>

#include "completions.h"
#include "context.h"
#include "dma.h"
#include "shared_memory.h"

namespace core {

using Made = std::variant<Failure, std::shared_ptr<SharedMemory>, std::shared_ptr<DmaBuf>>;

template <typename T>
Made asMade(Result<T> result) {
  if (!result.ok()) return result.failure();
  return std::move(result.value());
}

// The threads for it. They are never destroyed, as the releaser is not.
inline const std::shared_ptr<Threads>& makers() {
  constexpr unsigned kThreads = 4;
  static const auto* threads =
      new std::shared_ptr<Threads>(std::make_shared<Threads>("optee-memory", kThreads));
  return *threads;
}

class MakeJob : public Job {
 public:
  // context: what is made belongs to it, so its close() waits until this job is gone; null if to none.
  MakeJob(std::shared_ptr<Context> context, std::function<Made()> make)
      : context_(std::move(context)), use_(context_ ? context_->use() : nullptr), make_(std::move(make)) {}

  void run() override {
    made_ = make_();
    make_ = nullptr;
    completions->post(std::static_pointer_cast<Job>(shared_from_this()));
  }

  // What it has made, once it has ended. Nobody gets anything of a context that is closing by now.
  Made take() {
    if (context_ && context_->closing()) return Failure{Operation::open, EBADF};
    return std::move(made_);
  }

 private:
  const std::shared_ptr<Context> context_;
  const std::shared_ptr<UniqueFd> use_;  // the members below end before it
  std::function<Made()> make_;
  Made made_;
};

}  // namespace core
