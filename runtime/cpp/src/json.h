// JSON as a tree, read strictly: rule 1 of docs/plan-format.md as far as it is about text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace keepstep::internal {

constexpr std::size_t max_json_bytes = std::size_t{64} << 20;
constexpr std::size_t max_json_depth = 16;

struct Json;
using JsonList = std::vector<Json>;
using JsonObject = std::vector<std::pair<std::string, Json>>;

/// A JSON value in 16 bytes: a hostile file of 64 MiB is to take little memory.
struct Json {
    std::variant<std::nullptr_t, bool, std::int64_t, double, std::unique_ptr<std::string>,
                 std::unique_ptr<JsonList>, std::unique_ptr<JsonObject>>
        value;
};

/// Parses one JSON object; `where` is the file's name for messages.
///
/// Throws a bundle error (rule 1) for what is too large, nested too deep or no JSON object, for
/// keys that repeat in one object, and for halves of surrogate pairs.
Json parse_json(std::string_view text, const std::string& where,
                std::size_t max_bytes = max_json_bytes);

/// A value as a message says it, such as `an object` or `'x'`.
std::string described(const Json& json);

}  // namespace keepstep::internal
