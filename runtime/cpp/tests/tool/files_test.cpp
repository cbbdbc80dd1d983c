#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>

#include "failure.h"
#include "keepstep/safetensors.h"
#include "target.h"
#include "terminal.h"
#include "toy_bundle.h"
#include "write_safetensors.h"

namespace keepstep::tests {
namespace {

namespace fs = std::filesystem;

/// What a body fails with; nothing where it does not.
template <class Body>
std::string failure(Body&& body) {
    try {
        body();
    } catch (const tool::Failure& failure) {
        CHECK(failure.code == tool::mistake);
        return failure.message;
    }
    return "";
}

std::size_t files_in(const fs::path& folder) {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("tensors of every dtype are read back as they were written") {
    const std::vector<char> bytes(48, 1);
    const std::pair<const char*, DType> kinds[] = {
        {"a", DType::uint8},   {"b", DType::float32}, {"c", DType::float16}, {"d", DType::bfloat16},
        {"e", DType::int64},   {"f", DType::int32},   {"g", DType::boolean}};
    std::vector<ConstTensor> tensors;
    for (const auto& [name, dtype] : kinds) {
        tensors.push_back({name, dtype, {2, 3}, bytes.data(), 6 * item_bytes(dtype)});
    }
    tensors.push_back({"h", DType::float32, {}, bytes.data(), 4});
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "x").string();
    write(path, tool::safetensors_of(tensors));
    const auto found = Safetensors::open(path);
    REQUIRE(found.ok());
    REQUIRE(found->tensors().size() == tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const ConstTensor& tensor = found->tensors()[i];
        CHECK(tensor.name == tensors[i].name);
        CHECK(tensor.dtype == tensors[i].dtype);
        CHECK(tensor.shape == tensors[i].shape);
        REQUIRE(tensor.bytes == tensors[i].bytes);
        CHECK(std::memcmp(tensor.data, bytes.data(), tensor.bytes) == 0);
    }
}

TEST_CASE("a file of no tensors is a file") {
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "x").string();
    write(path, tool::safetensors_of({}));
    CHECK(Safetensors::open(path)->tensors().empty());
}

TEST_CASE("parts are seen in their places together, or not at all") {
    const TemporaryFolder folder;
    const fs::path one = folder.path() / "one";
    const fs::path other = folder.path() / "other";
    write(one, "before");
    {
        tool::PartFiles parts;
        parts.write(one.string(), "after");
        parts.write(other.string(), "new");
        CHECK(read(one) == "before");
        CHECK_FALSE(fs::exists(other));
    }
    CHECK(files_in(folder.path()) == 1);
    tool::PartFiles parts;
    parts.write(one.string(), "after");
    parts.write(other.string(), "new");
    parts.publish();
    CHECK(read(one) == "after");
    CHECK(read(other) == "new");
    CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("what cannot be written leaves nothing behind, and says why") {
    const TemporaryFolder folder;
    const std::string missing = (folder.path() / "no/x").string();
    fs::create_directory(folder.path() / "taken");
    const std::string taken = (folder.path() / "taken").string();
    const auto refusal = [](const std::string& path) {
        return failure([&] {
            tool::PartFiles parts;
            parts.write(path, "x");
            parts.publish();
        });
    };
    CHECK(contains(refusal(missing), missing + ": cannot be written: "));
    CHECK(contains(refusal(missing), "nothing was left behind"));
    CHECK(contains(refusal(taken), taken + ": cannot be put in its place: "));
    CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a file that cannot be finished is told and leaves nothing") {
    const TemporaryFolder folder;
    rlimit usual{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &usual) == 0);
    const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit five = {5, usual.rlim_max};
    for (const std::size_t size : {10, 100'000}) {  // fails when closed, and when written
        REQUIRE(setrlimit(RLIMIT_FSIZE, &five) == 0);
        const std::string message = failure([&] {
            tool::PartFiles parts;
            parts.write((folder.path() / "x").string(), std::string(size, 'x'));
        });
        REQUIRE(setrlimit(RLIMIT_FSIZE, &usual) == 0);
        CHECK(contains(message, "x: cannot be written: File too large"));
        CHECK(files_in(folder.path()) == 0);
    }
    std::signal(SIGXFSZ, ignored);
}

TEST_CASE("what is printed is read, and does nothing to a terminal") {
    CHECK(tool::printable("a\x1b[2J\r\x7f\nb") == "a\\x1b[2J\\x0d\\x7f\nb");
    CHECK(tool::printable("\xC3\xBC \xE2\x80\x93 :smile: [red] \xF0\x9F\x8D\x8E") ==
          "\xC3\xBC \xE2\x80\x93 :smile: [red] \xF0\x9F\x8D\x8E");
    CHECK(tool::printable("\xC2\x9B\xE2\x80\xAE\xEF\xBB\xBF") == "\\x9b\\u202e\\ufeff");
    CHECK(tool::printable("\xFF\xC3\xED\xA0\x80\xC0\x9B") ==
          "\\xff\\xc3\\xed\\xa0\\x80\\xc0\\x9b");
}

TEST_CASE("no file is written through a target that is none") {
    const TemporaryFolder folder;
    const std::string fifo = (folder.path() / "a.png").string();
    REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
    CHECK(contains(failure([&] { tool::check_target(fifo, ".png"); }), "is there and no file"));
    CHECK(files_in(folder.path()) == 1);
    if (!fs::is_directory("/proc/self")) return;  // a folder that takes files from nobody
    CHECK(contains(failure([] { tool::check_target("/proc/a.png", ".png"); }),
                   "/proc/a.png: cannot be written: "));
}

TEST_CASE("a target is refused for its place and for its name") {
    const TemporaryFolder folder;
    const std::string good = (folder.path() / "a.PNG").string();
    CHECK(failure([&] { tool::check_target(good, ".png"); }).empty());
    CHECK(failure([] { tool::check_target("a.png", ".png"); }).empty());
    const std::string name = (folder.path() / "a.png").string();
    CHECK(contains(failure([&] { tool::check_target(name + "/a.png", ".png"); }), "there is no folder"));
    CHECK(contains(failure([&] { tool::check_target(folder.path().string(), ".png"); }),
                   "is a folder"));
    CHECK(contains(failure([&] { tool::check_target(name, ".safetensors"); }),
                   "ends in .safetensors"));
    CHECK(contains(failure([] { tool::check_target("", ".png"); }), "ends in .png"));
}

}  // namespace keepstep::tests
