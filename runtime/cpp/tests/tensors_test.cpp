#include <doctest/doctest.h>

#include <cstring>

#include "error.h"
#include "tensors.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

using internal::TensorFile;
using internal::Type;

/// What a file of this content is refused with.
Status refused(const std::string& content) {
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "x").string();
    write(path, content);
    return internal::guarded_status([&] { TensorFile(internal::File(path), "x"); });
}

/// A header of one tensor `a`.
std::string header(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a": {"dtype": )" + dtype + R"(, "shape": )" + shape + R"(, "data_offsets": )" +
           offsets + "}}";
}

}  // namespace

TEST_CASE("tensors are found with their types and bytes") {
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "x").string();
    write(path, safetensors({{"a", {"BF16", {2}, std::string("\x80\x3f\x00\xc0", 4)}},
                             {"b", {"F64", {1}, std::string(8, '\1')}},
                             {"c", {"F32", {}, float_bytes({3})}},
                             {"d", {"BOOL", {0, 2}, ""}}}));
    const TensorFile file(internal::File(path), "x");
    CHECK(file.type("a") == Type{"bfloat16", {2}});
    CHECK(std::memcmp(file.data("a"), "\x80\x3f\x00\xc0", 4) == 0);
    CHECK(file.type("b") == Type{"F64", {1}});  // foreign to plans
    CHECK(file.type("c") == Type{"float32", {}});
    CHECK(file.type("d") == Type{"bool", {0, 2}});
    CHECK_FALSE(file.type("e"));
}

TEST_CASE("tensors at odd addresses are aligned") {
    for (int pad = 0; pad < 4; ++pad) {
        const TemporaryFolder folder;
        const std::string path = (folder.path() / "x").string();
        write(path, safetensors({{"a", {"U8", {1}, "x"}},
                                 {"b", {"F32", {2}, float_bytes({1, 2})}}},
                                pad));
        const TensorFile file(internal::File(path), "x");
        const std::byte* data = file.data("b");
        CHECK(reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0);
        CHECK(file.data("b") == data);
        CHECK(std::memcmp(data, float_bytes({1, 2}).data(), 8) == 0);
    }
}

TEST_CASE("what a writer notes beside the tensors may be anything of the format") {
    const std::string rest = R"("a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})";
    for (const char* metadata : {"{", R"({"__metadata__": null, )", R"({"__metadata__": {}, )",
                                 R"({"__metadata__": {"x": "y"}, )"}) {
        CHECK(refused(safetensors_of_header(metadata + rest, "x")).ok());
    }
    CHECK(refused(safetensors_of_header(R"({"__metadata__": {"x": 1}, )" + rest, "x")).rule() ==
          10);
}

TEST_CASE("sizes and offsets that do not fit the file are refused") {
    const std::pair<std::string, std::string> bad[] = {
        {header("\"F32\"", "[1]", "[0, 5]"), "xxxxx"},
        {header("\"F32\"", "[1]", "[4, 0]"), "xxxx"},
        {header("\"F32\"", "[1]", "[0, 4]"), "xxx"},
        {header("\"F32\"", "[1]", "[0, 4]"), "xxxxx"},
        {header("\"F32\"", "[1]", "[1, 5]"), "xxxxx"},
        {header("\"F32\"", "[1]", "[0]"), "xxxx"},
        {header("\"F32\"", "[1]", "[0, 4, 4]"), "xxxx"},
        {header("\"F32\"", "[1]", "[-4, 0]"), ""},
        {header("\"F32\"", "[1.0]", "[0, 4]"), "xxxx"},
        {header("\"F32\"", "[-1]", "[0, 4]"), "xxxx"},
        {header("\"F32\"", "[]", "[0, 0]"), ""},
        {header("\"F31\"", "[1]", "[0, 4]"), "xxxx"},
        {header("1", "[1]", "[0, 4]"), "xxxx"},
        {header("\"U8\"", "[4294967296, 4294967296]", "[0, 0]"), ""},
        {header("\"I64\"", "[9007199254740992, 1024]", "[0, 0]"), ""},
        {header("\"U8\"", "[9007199254740992]", "[0, 9007199254740992]"), ""},
        {R"({"a": {"dtype": "U8", "shape": [1]}})", "x"},
        {R"({"a": 1})", ""},
        {R"({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},)"
         R"( "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}})",
         "xxx"},
        {R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},)"
         R"( "b": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}})",
         "xxx"},
        {R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},)"
         R"( "a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}})",
         "xx"},
        {"[]", ""},
        {"", ""},
        {"{", ""},
    };
    for (const auto& [text, data] : bad) {
        CAPTURE(text);
        const Status status = refused(safetensors_of_header(text, data));
        CHECK(status.rule() == 10);
        CHECK(status.message().find("x: not a safetensors file: ") == 0);
    }
}

TEST_CASE("a header that claims more than the file has is refused") {
    for (std::size_t length = 0; length < 8; ++length) {
        CHECK(refused(std::string(length, '\0')).rule() == 10);
    }
    for (const char last : {'\x01', '\x7f', '\xff'}) {  // 2^56 bytes and more
        CHECK(refused(std::string(7, '\0') + last + "{}").rule() == 10);
    }
    for (const char* length : {"\x03", "\x80\x96\x98", "\xFF\xE0\xF5\x05"}) {  // up to 10^8 - 1
        std::string content = std::string(length) + std::string(8, '\0');
        const Status status = refused(content.substr(0, 8) + "{}");
        CHECK(status.rule() == 10);
        CHECK(contains(status.message(), "claims a header"));
    }
    CHECK(refused(std::string("\x02\0\0\0\0\0\0\0{}", 10)).ok());
}

}  // namespace keepstep::tests
