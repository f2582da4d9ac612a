#include "shared_views.h"

#include <algorithm>
#include <utility>

namespace binding {

std::shared_ptr<void> SharedViews::hold(Napi::Object object,
                                        const std::shared_ptr<core::Completions>& completions) {
  auto view = std::make_unique<View>();
  view->reference = Napi::Persistent(object);
  View* held = view.get();
  {
    std::lock_guard<std::mutex> lock(views_->mutex);
    views_->all.push_back(std::move(view));
    views_->held++;
  }
  const auto release = [views = views_, completions](View* released) {
    {
      std::lock_guard<std::mutex> lock(views->mutex);
      released->released = true;
      views->held--;
      views->changed.notify_all();
    }
    completions->wake();
  };
  return std::shared_ptr<View>(held, release);
}

void SharedViews::sweep() {
  auto& all = views_->all;
  std::lock_guard<std::mutex> lock(views_->mutex);
  if (all.size() == views_->held) return;
  all.erase(std::remove_if(all.begin(), all.end(), [](const auto& view) { return view->released; }),
            all.end());
}

void SharedViews::wait() {
  std::unique_lock<std::mutex> lock(views_->mutex);
  views_->changed.wait(lock, [this] { return views_->held == 0; });
}

}  // namespace binding
