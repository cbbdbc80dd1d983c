#include <doctest/doctest.h>

#include "error.h"
#include "json.h"
#include "node.h"
#include "plan_json.h"
#include "toy_bundle.h"
#include "validate.h"

namespace keepstep::tests {
namespace {

using internal::Json;
using internal::Node;
using internal::parse_json;

/// What a text is refused with by the reader of JSON.
Status refused(const std::string& text) {
    return internal::guarded_status([&] { parse_json(text, "x"); });
}

/// What a plan is refused with that has `text` at the end of its first field.
Status plan_refused(const std::string& text) {
    return internal::guarded_status([&] { internal::plan_from_json(text, "x"); });
}

std::string repeated(const std::string& unit, std::size_t count) {
    std::string text;
    text.reserve(unit.size() * count);
    for (std::size_t i = 0; i < count; ++i) text += unit;
    return text;
}

/// The toy plan with another arena_bytes.
std::string with_arena(const std::string& number) {
    return replaced(plan_text("valid/toy.json"), "\"arena_bytes\": 1792",
                    "\"arena_bytes\": " + number);
}

}  // namespace

TEST_CASE("a NUL does not end a file early") {
    CHECK(refused("{}").ok());
    CHECK(refused(std::string("{}\0", 3)).rule() == 1);
    CHECK(refused(std::string("{}\0{", 4)).rule() == 1);
    CHECK(refused(std::string("\0{}", 3)).rule() == 1);
}

TEST_CASE("a byte order mark is refused, and blanks around the object are not") {
    CHECK(refused("\xEF\xBB\xBF{}").rule() == 1);
    CHECK(refused(" \t\r\n{} \n").ok());
}

TEST_CASE("what is no UTF-8 is refused, in strings and keys") {
    for (const char* bytes : {"\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xE2\x82"}) {
        CHECK(refused(std::string("{\"a\": \"") + bytes + "\"}").rule() == 1);
        CHECK(refused(std::string("{\"") + bytes + "\": 1}").rule() == 1);
    }
    CHECK(refused("{\"a\": \"\xF0\x9F\x8D\x8E \\ud83c\\udf4e\"}").ok());
    CHECK(refused(R"({"a": "\ud83c"})").rule() == 1);
    CHECK(refused(R"({"\udf4e": 1})").rule() == 1);
}

TEST_CASE("keys that repeat are refused, also when one is written with an escape") {
    CHECK(refused(R"({"a": {"b": 1, "c": 2, "\u0062": 3}})").message() ==
          "x: key 'b' appears twice in one object (rule 1)");
    CHECK(refused(R"({"a": {"b": 1}, "b": {"b": 2}})").ok());
}

TEST_CASE("JSON nests 16 deep and no deeper") {
    CHECK(refused("{\"a\": " + repeated("[", 15) + repeated("]", 15) + "}").ok());
    CHECK(refused("{\"a\": " + repeated("[", 16) + repeated("]", 16) + "}").rule() == 1);
    CHECK(refused(repeated("{\"a\":", 17) + "1" + repeated("}", 17)).rule() == 1);
    CHECK(refused("{\"" + repeated("[{", 40) + "\": \"" + repeated("[", 40) + "\"}").ok());
}

TEST_CASE("an int lies in 0 to 2^53 and is written as one") {
    for (const char* number : {"-1", "-0.0", "1.0", "1e3", "9007199254740993", "true", "null",
                               "9223372036854775808", "18446744073709551616", "\"1\"", "1e999"}) {
        CAPTURE(number);
        CHECK(plan_refused(with_arena(number)).rule() == 1);
    }
    for (const char* number : {"-0", "0", "9007199254740992"}) {
        CAPTURE(number);
        CHECK(plan_refused(with_arena(number)).ok());
    }
}

TEST_CASE("a message names the place and what was found there") {
    const Status status = plan_refused(
        replaced(plan_text("valid/toy.json"), R"("noise": "noise")", R"("noise": {"a": 1})"));
    CHECK(status.message().find("x: calls[1].reads.noise: expected a value's name or [name, row], "
                                "found an object") == 0);
}

TEST_CASE("a fault of the grammar is told with its line and column, and whether the end is cut") {
    const std::string message = refused("{\"a\": 1,\n \"b\": x}").message();
    CHECK(message.find("x: not JSON at line 2, column 7") == 0);
    CHECK(message.find("cut short") == message.npos);
    CHECK(refused("{\"a\": [1, ").message().find("cut short") != std::string::npos);
}

TEST_CASE("a mistyped field is guessed") {
    const std::string text = replaced(plan_text("valid/toy.json"), "\"reads\"", "\"raeds\"");
    CHECK(plan_refused(text).message().find(
              "x: calls[0]: unknown field 'raeds' (did you mean 'reads'?)") == 0);
}

TEST_CASE("a newer version is refused before its new fields") {
    const Status status = plan_refused(R"({"keepstep": 3, "graphs": []})");
    CHECK(status.rule() == 2);
    CHECK(status.message().find("version 3, but this keepstep reads versions 1 and 2") !=
          std::string::npos);
}

TEST_CASE("more than 64 MiB is refused") {
    const Status status = refused(std::string(internal::max_json_bytes + 1, ' '));
    CHECK(status.rule() == 1);
    CHECK(status.message().find("64 MiB") != std::string::npos);
}

TEST_CASE("megabytes of one token are refused with a short message") {
    for (const char* unit : {"[", "{\"a\":", "\"", "\\", "\\\"", "[]", "9", "{}", "1e"}) {
        const std::string text = "{\"keepstep\": " + repeated(unit, std::size_t{1} << 18);
        const Status status = plan_refused(text);
        CHECK(status.rule() == 1);
        CHECK(status.message().size() < 1000);
    }
}

TEST_CASE("many keys, axes and names are refused") {
    std::string keys = "{\"keepstep\": 1";
    std::string axes = "2147483647";
    for (int i = 0; i < 100'000; ++i) {
        keys += ", \"k" + std::to_string(i) + "\": 0";
        axes += ", 2147483647";
    }
    CHECK(plan_refused(keys + "}").message().find("unknown field") != std::string::npos);
    const std::string text =
        replaced(plan_text("valid/toy.json"), "\"shape\": [", "\"shape\": [" + axes + ", ");
    const Status status = internal::guarded_status(
        [&] { internal::check_plan(internal::plan_from_json(text, "x"), nullptr, "x"); });
    CHECK(status.rule() == 7);
}

TEST_CASE("a manifest's digest is 64 hex digits of any case") {
    const auto manifest = [](const std::string& digest) {
        return internal::guarded([&] {
            return internal::manifest_from_json(
                R"({"keepstep": 1, "producer": "x", "model": {}, "plans": [], "tokenizers": {},)"
                R"( "files": {"a": {"bytes": 0, "sha256": ")" +
                digest + "\"}}}");
        });
    };
    CHECK(manifest(std::string(63, '0')).status().rule() == 1);
    CHECK(manifest(std::string(64, 'g')).status().rule() == 1);
    CHECK(manifest(std::string(64, 'A'))->files.at("a").sha256 == std::string(64, 'a'));
}

}  // namespace keepstep::tests
