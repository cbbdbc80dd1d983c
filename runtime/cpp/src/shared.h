// What several players of a bundle use, for as long as any of them does.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace keepstep::internal {

/// Things by keys, held by those who use them alone. Any thread may use it.
///
/// A key begins with the name of its backend, and so always means the same type.
class Shared {
  public:
    /// The thing of that key; made if nobody has one. Others wait while it is made, so `make` asks
    /// for no other.
    template <class T>
    std::shared_ptr<T> get(const std::string& key,
                           const std::function<std::shared_ptr<T>()>& make) {
        const std::lock_guard<std::mutex> lock(making_);
        std::weak_ptr<void>& known = things_[key];
        auto thing = std::static_pointer_cast<T>(known.lock());
        if (thing == nullptr) {
            thing = make();
            known = thing;
        }
        return thing;
    }

  private:
    std::mutex making_;
    std::map<std::string, std::weak_ptr<void>> things_;
};

}  // namespace keepstep::internal
