#include "json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "error.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

/// Builds the tree while nlohmann's parser reads, and refuses what that parser would let through.
class Builder : public nlohmann::json_sax<nlohmann::json> {
  public:
    Builder(std::string_view text, const std::string& where) : text_(text), where_(where) {}

    bool null() override { return put(nullptr); }
    bool boolean(bool value) override { return put(value); }
    bool number_integer(number_integer_t value) override { return put(std::int64_t{value}); }
    bool number_unsigned(number_unsigned_t value) override {
        // Beyond 2^63 it is no int of ours, and as a number it may lose digits.
        if (value > INT64_MAX) return put(static_cast<double>(value));
        return put(static_cast<std::int64_t>(value));
    }
    bool number_float(number_float_t value, const string_t&) override { return put(value); }
    bool string(string_t& text) override {
        return put(std::make_unique<std::string>(std::move(text)));
    }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return open(std::make_unique<JsonObject>()); }
    bool start_array(std::size_t) override { return open(std::make_unique<JsonList>()); }
    bool key(string_t& key) override {
        std::get<ObjectPointer>(open_.back()->value)->emplace_back(std::move(key), Json{});
        return true;
    }
    bool end_object() override {
        refuse_repeated(*std::get<ObjectPointer>(open_.back()->value));
        open_.pop_back();
        return true;
    }
    bool end_array() override {
        open_.pop_back();
        return true;
    }

    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::json::exception& fault) override {
        const std::size_t at = std::min(position == 0 ? 0 : position - 1, text_.size());
        const std::string_view before = text_.substr(0, at);
        const auto line = 1 + std::count(before.begin(), before.end(), '\n');
        const auto column = at - (before.rfind('\n') + 1);  // npos + 1 is 0
        const bool cut = text_.find_last_not_of(" \t\r\n") + 1 <= at;
        refuse("not JSON at line " + std::to_string(line) + ", column " +
               std::to_string(column + 1) + ": " + reason(fault.what()) +
               (cut ? "; the file is cut short" : ""));
    }

    Json take() { return std::move(root_); }

  private:
    using ListPointer = std::unique_ptr<JsonList>;
    using ObjectPointer = std::unique_ptr<JsonObject>;

    /// Puts a value where the parser is, and gives its place.
    template <class Value>
    Json* place(Value value) {
        Json* at = &root_;
        if (!open_.empty()) {
            Json& outer = *open_.back();
            if (auto* list = std::get_if<ListPointer>(&outer.value)) {
                at = &(*list)->emplace_back();
            } else {
                at = &std::get<ObjectPointer>(outer.value)->back().second;
            }
        }
        at->value = std::move(value);
        return at;
    }

    template <class Value>
    bool put(Value value) {
        place(std::move(value));
        return true;
    }

    template <class Container>
    bool open(Container container) {
        if (open_.size() == max_json_depth) {
            refuse("JSON nested " + std::to_string(max_json_depth + 1) +
                   " deep or more, expected at most " + std::to_string(max_json_depth));
        }
        // An open container is the last in its outer one, which does not grow before it is closed.
        open_.push_back(place(std::move(container)));
        return true;
    }

    void refuse_repeated(const JsonObject& members) const {
        std::vector<std::string_view> keys;
        keys.reserve(members.size());
        for (const auto& member : members) keys.push_back(member.first);
        std::sort(keys.begin(), keys.end());
        const auto twice = std::adjacent_find(keys.begin(), keys.end());
        if (twice != keys.end()) {
            refuse("key " + quote(*twice) + " appears twice in one object");
        }
    }

    /// The parser's own words, behind its name and position.
    static std::string reason(std::string_view what) {
        for (const std::string_view mark : {"column ", "] "}) {
            const std::size_t found = what.find(mark);
            if (found == what.npos) continue;
            what.remove_prefix(found + mark.size());
            if (mark == "column ") what.remove_prefix(std::min(what.find(' ') + 1, what.size()));
            break;
        }
        return escape(what);
    }

    [[noreturn]] void refuse(const std::string& message) const {
        throw_bundle_error(1, where_ + ": " + message);
    }

    std::string_view text_;
    const std::string& where_;
    Json root_;
    std::vector<Json*> open_;
};

std::string number_text(double number) {
    return nlohmann::json(number).dump();  // the shortest that reads as the same number
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, std::size_t max_bytes) {
    const auto refuse = [&](const std::string& message) {
        throw_bundle_error(1, where + ": " + message);
    };
    if (text.size() > max_bytes) {
        refuse(std::to_string(text.size()) + " bytes of JSON, expected at most " +
               std::to_string(max_bytes) + " (" + std::to_string(max_bytes >> 20) + " MiB)");
    }
    // nlohmann's parser skips the one and takes the other for the end.
    if (text.substr(0, 3) == "\xEF\xBB\xBF") refuse("begins with a byte order mark");
    if (const auto nul = text.find('\0'); nul != text.npos) {
        refuse("not JSON: a NUL at byte " + std::to_string(nul));
    }
    Builder builder(text, where);
    nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
    Json root = builder.take();
    if (!std::holds_alternative<std::unique_ptr<JsonObject>>(root.value)) {
        refuse("expected one JSON object, found " + described(root));
    }
    return root;
}

std::string described(const Json& json) {
    struct Describe {
        std::string operator()(std::nullptr_t) const { return "null"; }
        std::string operator()(bool value) const { return value ? "true" : "false"; }
        std::string operator()(std::int64_t value) const { return std::to_string(value); }
        std::string operator()(double value) const { return number_text(value); }
        std::string operator()(const std::unique_ptr<std::string>& text) const {
            return quote(*text);
        }
        std::string operator()(const std::unique_ptr<JsonList>&) const { return "a list"; }
        std::string operator()(const std::unique_ptr<JsonObject>&) const { return "an object"; }
    };
    return std::visit(Describe{}, json.value);
}

}  // namespace keepstep::internal
