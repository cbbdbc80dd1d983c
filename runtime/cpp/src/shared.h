// Things that the players of a bundle have in common, for as long as any of them lives.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace keepstep::internal {

/// Loaded engines and the like by their keys. Any thread may use it.
class Shared {
  public:
    /// The thing of that key; made if nobody has one. Keys of one type begin alike. Two that ask
    /// for the same wait for each other, so that it is made once.
    template <class T>
    std::shared_ptr<T> get(const std::string& key,
                           const std::function<std::shared_ptr<T>()>& make) {
        const std::lock_guard<std::mutex> lock(making_);
        std::weak_ptr<void>& known = things_[key];
        if (auto thing = known.lock()) return std::static_pointer_cast<T>(thing);
        std::shared_ptr<T> made = make();
        known = made;
        return made;
    }

  private:
    std::mutex making_;
    std::map<std::string, std::weak_ptr<void>> things_;
};

}  // namespace keepstep::internal
