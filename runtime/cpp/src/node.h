// A JSON value and the place where it stands, without knowing what the fields mean.
//
// The methods hand out values of one type each and refuse every other with the place, such as
// `plans/x.json: calls[3].reads: expected an object, found 7`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "json.h"

namespace keepstep::internal {

/// Refers to its JSON and to the node that it is in: both outlive it.
class Node {
  public:
    /// The root of a file; `where` names it in messages.
    Node(const Json& json, const std::string& where) : json_(&json), key_(&where) {}

    /// The path from the root, as `plans/x.json: calls[3].reads`.
    std::string place() const;
    /// Throws a bundle error that names this place.
    [[noreturn]] void refuse(const std::string& message, int rule = 1) const;
    /// Throws a bundle error that says what was expected here, and what was found.
    [[noreturn]] void expected(const std::string& what) const;

    bool is_null() const { return std::holds_alternative<std::nullptr_t>(json_->value); }
    bool is_text() const { return is<std::unique_ptr<std::string>>(); }
    bool is_boolean() const { return is<bool>(); }
    bool is_list() const { return is<std::unique_ptr<JsonList>>(); }

    const std::string& text() const;
    /// An int in 0 … 2^53; `true` and `1.0` are none.
    std::int64_t integer() const;
    bool boolean() const;
    /// A finite number; there are no others in JSON.
    double number() const;

    /// How many elements a list has.
    std::size_t size() const { return list().size(); }
    Node element(std::size_t index) const { return {list()[index], this, index}; }

    /// Refuses an object without all `required` fields or with an unknown one.
    void check_fields(std::initializer_list<std::string_view> required,
                      std::initializer_list<std::string_view> optional = {}) const;
    /// A member of an object, which must be there.
    Node field(std::string_view key) const;
    /// A member of an object, if it is there.
    std::optional<Node> find(std::string_view key) const;

    /// Calls `visit(name, node)` for every member of an object.
    template <class Visit>
    void each_member(Visit visit) const {
        for (const auto& [key, value] : object()) visit(key, Node(value, this, key));
    }
    /// Calls `visit(node)` for every element of a list.
    template <class Visit>
    void each_element(Visit visit) const {
        for (std::size_t i = 0; i < size(); ++i) visit(element(i));
    }

  private:
    Node(const Json& json, const Node* outer, const std::string& key)
        : json_(&json), outer_(outer), key_(&key) {}
    Node(const Json& json, const Node* outer, std::size_t index)
        : json_(&json), outer_(outer), index_(index) {}

    template <class T>
    bool is() const {
        return std::holds_alternative<T>(json_->value);
    }
    const JsonObject& object() const;
    const JsonList& list() const;
    std::string prefix() const;

    const Json* json_;
    const Node* outer_ = nullptr;
    const std::string* key_ = nullptr;  // null in a list
    std::size_t index_ = 0;
};

}  // namespace keepstep::internal
