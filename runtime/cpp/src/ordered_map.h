// Named things in the order of their file.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace keepstep::internal {

/// A map that keeps the order in which it was filled, so that findings come in the plan's order.
template <class T>
class OrderedMap {
  public:
    using Item = std::pair<std::string, T>;

    /// Puts in one more; `name` is not there yet.
    void add(const std::string& name, T thing) {
        index_.emplace(name, items_.size());
        items_.emplace_back(name, std::move(thing));
    }
    /// The thing of that name, or null.
    const T* find(const std::string& name) const {
        const auto found = index_.find(name);
        return found == index_.end() ? nullptr : &items_[found->second].second;
    }
    /// The thing of that name, which is there.
    const T& at(const std::string& name) const { return items_[index_.at(name)].second; }
    /// Its place in the order.
    std::size_t index_of(const std::string& name) const { return index_.at(name); }
    bool contains(const std::string& name) const { return index_.count(name) != 0; }

    auto begin() const { return items_.begin(); }
    auto end() const { return items_.end(); }
    std::size_t size() const { return items_.size(); }
    bool empty() const { return items_.empty(); }
    const Item& operator[](std::size_t i) const { return items_[i]; }

    /// All names, in order.
    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const Item& item : items_) found.push_back(item.first);
        return found;
    }

  private:
    std::vector<Item> items_;
    // No hash table: a hostile file could choose names that all have one hash.
    std::map<std::string, std::size_t> index_;
};

}  // namespace keepstep::internal
