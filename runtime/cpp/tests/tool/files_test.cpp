#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>

#include "failure.h"
#include "keepstep/safetensors.h"
#include "target.h"
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

TEST_CASE("drafts are seen in their places together, or not at all") {
    const TemporaryFolder folder;
    const fs::path one = folder.path() / "one";
    const fs::path other = folder.path() / "other";
    write(one, "before");
    {
        tool::Drafts drafts;
        drafts.write(one.string(), "after");
        drafts.write(other.string(), "new");
        CHECK(read(one) == "before");
        CHECK_FALSE(fs::exists(other));
    }
    CHECK(files_in(folder.path()) == 1);
    tool::Drafts drafts;
    drafts.write(one.string(), "after");
    drafts.write(other.string(), "new");
    drafts.publish();
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
            tool::Drafts drafts;
            drafts.write(path, "x");
            drafts.publish();
        });
    };
    CHECK(contains(refusal(missing), missing + ": cannot be written: "));
    CHECK(contains(refusal(missing), "nothing was left behind"));
    CHECK(contains(refusal(taken), taken + ": cannot be put in its place: "));
    CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a full disk is told") {
    if (!fs::exists("/dev/full")) return;  // of Linux alone
    const TemporaryFolder folder;
    const fs::path draft = folder.path() / (".x." + std::to_string(getpid()) + ".part");
    for (const std::size_t size : {10, 100'000}) {  // fails when closed, and when written
        fs::create_symlink("/dev/full", draft);
        const std::string message = failure([&] {
            tool::Drafts drafts;
            drafts.write((folder.path() / "x").string(), std::string(size, 'x'));
        });
        CHECK(contains(message, "No space left on device"));
        CHECK(files_in(folder.path()) == 0);
    }
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
