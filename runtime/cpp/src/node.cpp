#include "node.h"

#include <algorithm>
#include <vector>

#include "error.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::int64_t max_int = std::int64_t{1} << 53;  // up to it every reader has every int

bool ends_with(const std::string& text, std::string_view end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.npos, end) == 0;
}

std::vector<std::string> strings(std::initializer_list<std::string_view> one,
                                 std::initializer_list<std::string_view> other = {}) {
    std::vector<std::string> found(one.begin(), one.end());
    found.insert(found.end(), other.begin(), other.end());
    return found;
}

const Json* member(const JsonObject& members, std::string_view key) {
    for (const auto& [name, value] : members) {
        if (name == key) return &value;
    }
    return nullptr;
}

}  // namespace

std::string Node::prefix() const {
    if (outer_ == nullptr) return *key_ + ": ";
    const std::string before = outer_->prefix();
    if (key_ == nullptr) return before + "[" + std::to_string(index_) + "]";
    return before + (ends_with(before, ": ") ? "" : ".") + escape(*key_);
}

std::string Node::place() const {
    const std::string text = prefix();
    return ends_with(text, ": ") ? text : text + ": ";
}

void Node::refuse(const std::string& message, int rule) const {
    throw_bundle_error(rule, place() + message);
}

void Node::expected(const std::string& what) const {
    refuse("expected " + what + ", found " + described(*json_));
}

const std::string& Node::text() const {
    const auto* text = std::get_if<std::unique_ptr<std::string>>(&json_->value);
    if (text == nullptr) expected("a string");
    return **text;
}

std::int64_t Node::integer() const {
    const auto* number = std::get_if<std::int64_t>(&json_->value);
    if (number == nullptr || *number < 0 || *number > max_int) expected("an int in 0 … 2⁵³");
    return *number;
}

bool Node::boolean() const {
    const auto* value = std::get_if<bool>(&json_->value);
    if (value == nullptr) expected("true or false");
    return *value;
}

double Node::number() const {
    if (const auto* number = std::get_if<std::int64_t>(&json_->value)) {
        return static_cast<double>(*number);
    }
    const auto* number = std::get_if<double>(&json_->value);
    if (number == nullptr) expected("a finite number");
    return *number;
}

void Node::check_fields(std::initializer_list<std::string_view> required,
                        std::initializer_list<std::string_view> optional) const {
    const JsonObject& members = object();
    std::vector<std::string> missing;
    for (const std::string_view key : required) {
        if (member(members, key) == nullptr) missing.emplace_back(key);
    }
    const std::vector<std::string> known = strings(required, optional);
    for (const auto& [key, value] : members) {
        if (std::find(known.begin(), known.end(), key) == known.end()) {
            const std::string hint = did_you_mean(key, missing.empty() ? known : missing);
            refuse("unknown field " + quote(key) + hint + "; known: " + quote_names(known));
        }
    }
    if (!missing.empty()) refuse("field " + quote(missing[0]) + " is missing");
}

Node Node::field(std::string_view key) const {
    const std::optional<Node> found = find(key);
    if (!found) refuse("field " + quote(key) + " is missing");
    return *found;
}

std::optional<Node> Node::find(std::string_view key) const {
    for (const auto& [name, value] : object()) {
        if (name == key) return Node(value, this, name);
    }
    return std::nullopt;
}

const JsonObject& Node::object() const {
    const auto* members = std::get_if<std::unique_ptr<JsonObject>>(&json_->value);
    if (members == nullptr) expected("an object");
    return **members;
}

const JsonList& Node::list() const {
    const auto* elements = std::get_if<std::unique_ptr<JsonList>>(&json_->value);
    if (elements == nullptr) expected("a list");
    return **elements;
}

}  // namespace keepstep::internal
