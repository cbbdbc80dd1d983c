#include "kernel_cache_file.h"

#include <doctest/doctest.h>

#include "toy_bundle.h"

namespace keepstep::tests {

namespace fs = std::filesystem;

TEST_CASE("what is kept is read again, and replaces what was there") {
    const TemporaryFolder temporary;
    const std::string file = (temporary.path() / "x.cache").string();
    CHECK(internal::kept_bytes(file).empty());
    const std::string first("a\0b", 3);
    CHECK(internal::keep_bytes(file, first.data(), first.size()));
    CHECK(internal::kept_bytes(file) == first);
    CHECK(internal::keep_bytes(file, "longer", 6));
    CHECK(internal::kept_bytes(file) == "longer");
    CHECK(std::distance(fs::directory_iterator(temporary.path()), {}) == 1);  // no part is left
}

TEST_CASE("what cannot be kept is no failure, and leaves nothing") {
    const TemporaryFolder temporary;
    CHECK_FALSE(internal::keep_bytes((temporary.path() / "nowhere/x.cache").string(), "x", 1));
    const fs::path taken = temporary.path() / "y.cache";
    fs::create_directories(taken / "something");  // no file takes a folder's place
    CHECK_FALSE(internal::keep_bytes(taken.string(), "x", 1));
    CHECK(std::distance(fs::directory_iterator(temporary.path()), {}) == 1);
    CHECK(internal::kept_bytes(taken.string()).empty());
}

}  // namespace keepstep::tests
