// Files that are missing, cut, altered or no files at all.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <random>

#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

namespace fs = std::filesystem;

struct Toy {
    Toy() : folder(temporary.path() / "toy") { write_bundle(folder); }

    TemporaryFolder temporary;
    fs::path folder;
};

}  // namespace

TEST_CASE_FIXTURE(Toy, "a missing file is refused") {
    for (const char* path : {"weights.safetensors", "stages/full-00.onnx", "plans/toy.json"}) {
        write_bundle(folder);
        fs::remove(folder / path);
        CHECK(refusal(folder).rule() == 4);
        CHECK(contains(refusal(folder).message(), std::string(path) + ": is missing"));
    }
}

TEST_CASE_FIXTURE(Toy, "a cut file is refused, also without looking at hashes") {
    fs::resize_file(folder / "weights.safetensors", 20);
    CHECK(contains(refusal(folder).message(), "20 bytes, expected"));
    CHECK(refusal(folder, "toy", false).rule() == 4);
}

TEST_CASE_FIXTURE(Toy, "an altered file is refused where hashes are looked at") {
    std::string content = read(folder / "weights.safetensors");
    content.back() ^= 1;
    write(folder / "weights.safetensors", content);
    CHECK(refusal(folder).rule() == 4);
    CHECK(contains(refusal(folder).message(), "SHA-256"));
    CHECK(refusal(folder, "toy", false).ok());
}

TEST_CASE_FIXTURE(Toy, "a folder, pipe or circle of links in place of a file is refused") {
    const fs::path file = folder / "weights.safetensors";
    fs::remove(file);
    fs::create_directory(file);
    CHECK(contains(refusal(folder).message(), "no plain file"));
    fs::remove(file);
    REQUIRE(mkfifo(file.c_str(), 0600) == 0);
    CHECK(contains(refusal(folder).message(), "no plain file"));
    fs::remove(file);
    fs::create_symlink("weights.safetensors", file);
    CHECK(contains(refusal(folder).message(), "missing"));
    CHECK(refusal(folder).rule() == 4);
}

TEST_CASE_FIXTURE(Toy, "a pipe that takes a file's place behind the check is not waited for") {
    for (const char* path : {"plans/toy.json", "plans/toy.safetensors", "weights.safetensors"}) {
        const auto bundle = Bundle::open(folder.string());
        REQUIRE(bundle.ok());
        const std::string content = read(folder / path);
        fs::remove(folder / path);
        REQUIRE(mkfifo((folder / path).c_str(), 0600) == 0);
        const Status status = bundle->player("toy", "null").status();
        CHECK(status.code() == StatusCode::bundle_error);
        CHECK_MESSAGE(contains(status.message(), "was replaced since it was opened"),
                      status.message());
        fs::remove(folder / path);
        write(folder / path, content);
    }
}

TEST_CASE_FIXTURE(Toy, "a path through a file, of many letters or of many folders is refused") {
    const auto listed = [&](const std::string& path) {
        seal(folder);
        write(folder / "bundle.json",
              replaced(read(folder / "bundle.json"), R"("files": {)",
                       R"("files": {")" + path + R"(": {"bytes": 0, "sha256": ")" +
                           std::string(64, '0') + "\"}, "));
        return refusal(folder);
    };
    CHECK(listed("weights.safetensors/x").rule() == 4);
    CHECK(listed(std::string(5000, 'x')).rule() == 0);
    CHECK(listed(std::string(5000, 'x')).code() == StatusCode::bundle_error);
    std::string deep = "x";
    for (int i = 0; i < 300'000; ++i) deep += "/x";
    CHECK(listed(deep).rule() == 0);
}

TEST_CASE_FIXTURE(Toy, "a safetensors file of rubbish is refused") {
    for (const char* file : {"plans/toy.safetensors", "weights.safetensors"}) {
        for (const std::size_t where : {8, 60, 100}) {
            write_bundle(folder);
            std::string content = read(folder / file);
            content.erase(where, 1);
            write(folder / file, content);
            seal(folder);
            CHECK(refusal(folder).rule() == 10);
        }
    }
}

TEST_CASE_FIXTURE(Toy, "whatever byte of a bundle is another, it is opened or refused") {
    // With hashes off, every reader meets the damage itself.
    std::mt19937 random(7);
    const char* files[] = {"bundle.json", "plans/toy.json", "plans/toy.safetensors",
                           "weights.safetensors"};
    int refused = 0;
    for (int round = 0; round < 400; ++round) {
        const fs::path file = folder / files[round % 4];
        const std::string content = read(file);
        std::string damaged = content;
        for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
            damaged[random() % damaged.size()] = static_cast<char>(random());
        }
        write(file, damaged);
        const Status status = refusal(folder, "toy", false);
        if (!status.ok()) {
            ++refused;
            REQUIRE_MESSAGE((status.code() == StatusCode::bundle_error ||
                             contains(status.message(), "has no plan")),
                            status.message());
            REQUIRE(printable(status.message()));
        }
        write(file, content);
    }
    CHECK(refused > 200);
    CHECK(refusal(folder).ok());
}

}  // namespace keepstep::tests
