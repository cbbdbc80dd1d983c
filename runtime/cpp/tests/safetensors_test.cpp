#include "keepstep/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>

#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// What a file of this content is refused with.
Status refused(const std::string& content) {
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "in.safetensors").string();
    write(path, content);
    return Safetensors::open(path).status();
}

}  // namespace

TEST_CASE("the tensors of a file come with their names, types and bytes, and outlive the file") {
    TemporaryFolder folder;
    const std::string path = (folder.path() / "x").string();
    write(path, safetensors({{"b", {"BF16", {2}, std::string("\x80\x3f\x00\xc0", 4)}},
                             {"a", {"F32", {}, float_bytes({3})}},
                             {"c", {"BOOL", {0, 2}, ""}}}));
    auto opened = Safetensors::open(path);
    REQUIRE(opened.ok());
    std::filesystem::remove(path);
    const Safetensors copy = *opened;
    opened = Result<Safetensors>(Status(StatusCode::input_error, 0, "gone"));
    const auto& tensors = copy.tensors();
    REQUIRE(tensors.size() == 3);
    CHECK(tensors[0].name == "a");
    CHECK(tensors[0].dtype == DType::float32);
    CHECK(tensors[0].shape == Shape{});
    CHECK(tensors[0].bytes == 4);
    CHECK(*static_cast<const float*>(tensors[0].data) == 3);
    CHECK(tensors[1].dtype == DType::bfloat16);
    CHECK(std::memcmp(tensors[1].data, "\x80\x3f\x00\xc0", 4) == 0);
    CHECK(tensors[2].shape == Shape{0, 2});
}

TEST_CASE("a file's tensors are what a run takes") {
    const TemporaryFolder folder;
    write_bundle(folder.path() / "toy");
    const std::string path = (folder.path() / "in.safetensors").string();
    write(path, safetensors({{"noise", {"F32", {1, 4}, float_bytes({1, 2, 3, 4})}},
                             {"token_ids", {"I64", {1, 4}, std::string(32, '\0')}}}));
    auto player = Bundle::open((folder.path() / "toy").string())->player("toy", "null");
    const auto inputs = Safetensors::open(path);
    REQUIRE(inputs.ok());
    CHECK(player->run(inputs->tensors()).ok());
}

TEST_CASE("what is no file of tensors for a plan is refused, as the caller's and with its name") {
    const TemporaryFolder folder;
    const std::pair<std::string, const char*> bad[] = {
        {(folder.path() / "no").string(), "no: cannot be read: No such file"},
        {folder.path().string(), "is a folder"},
        {std::string("a\0b", 3), "a NUL"},
    };
    for (const auto& [path, words] : bad) {
        const Status status = Safetensors::open(path).status();
        CHECK(status.code() == StatusCode::input_error);
        CHECK_MESSAGE(contains(status.message(), words), status.message());
        CHECK(printable(status.message()));
    }
    const std::pair<std::string, const char*> contents[] = {
        {"", "too short"},
        {safetensors_of_header("{"), "not a safetensors file"},
        {safetensors({{"x (rule 1)", {"F64", {1}, std::string(8, '\0')}}}),
         "tensor 'x (rule 1)' is F64[1], which plans do not know"},
        {safetensors({{"x", {"U8", {1, 1, 1, 1, 1, 1, 1, 1, 1}, "x"}}}), "plans do not know"},
    };
    for (const auto& [content, words] : contents) {
        const Status status = refused(content);
        CHECK(status.code() == StatusCode::input_error);
        CHECK(status.rule() == 0);
        CHECK_MESSAGE(contains(status.message(), words), status.message());
        CHECK(contains(status.message(), "in.safetensors: "));
    }
}

}  // namespace keepstep::tests
