#include <doctest/doctest.h>

#include "paths.h"
#include "toy_bundle.h"
#include "quoting.h"

namespace keepstep::tests {

using namespace internal;

TEST_CASE("what is quoted is escaped and cut") {
    CHECK(quote("a b") == "'a b'");
    CHECK(quote("it's\n\\") == "'it\\'s\\n\\\\'");
    CHECK(quote("\xC3\xBC \xE2\x80\x93 \xF0\x9F\x8D\x8E") == "'\\xfc \\u2013 \\U0001f34e'");
    CHECK(quote("\xFF\xC3") == "'\\xff\\xc3'");
    CHECK(quote(std::string(1'000'000, 'x')).size() < 90);
    CHECK(quote(std::string(1'000'000, '\x1b')).size() < 90);
}

TEST_CASE("what another library says becomes one line") {
    CHECK(sanitize("it's\n\"gone\"\x1b\xFF") == "it's \"gone\"  ");
    CHECK(sanitize(std::string(1'000'000, 'x')).size() < 410);
}

TEST_CASE("the first dozen names of a list are quoted") {
    CHECK(quote_names({}) == "none");
    CHECK(quote_names({"a", "b"}) == "'a', 'b'");
    CHECK(quote_names(std::vector<std::string>(13, "a")).find(", …") != std::string::npos);
}

TEST_CASE("a close name is guessed, and a far one is not") {
    CHECK(did_you_mean("tyo", {"full", "toy"}) == " (did you mean 'toy'?)");
    CHECK(did_you_mean("token_id", {"noise", "token_ids"}) == " (did you mean 'token_ids'?)");
    CHECK(did_you_mean("x", {"noise", "token_ids"}).empty());
    CHECK(did_you_mean("", {"a"}).empty());
}

TEST_CASE("a path goes straight down from the bundle") {
    for (const char* good : {"a", "a/b.c", "...", "a b", "1:/x", "\xC3\xBC"}) {
        CHECK_FALSE(path_fault(good));
    }
    for (const char* bad :
         {"", "/a", "a/", "a//b", ".", "..", "a/./b", "a/..", "a\\b", "C:", "c:/x"}) {
        CAPTURE(bad);
        CHECK(path_fault(bad));
    }
    CHECK(path_fault(std::string("a\0b", 3)));
}

TEST_CASE("a real path is what the system resolves, and what is missing stays") {
    namespace fs = std::filesystem;
    const TemporaryFolder temporary;
    const fs::path root = fs::canonical(temporary.path());
    fs::create_directories(root / "a/b");
    fs::create_symlink("a/b", root / "down");
    fs::create_symlink("../..", root / "a/b/up");
    fs::create_symlink(root / "down/up/a", root / "around");
    fs::create_symlink("nothing/../x", root / "dangling");
    fs::create_symlink("circle", root / "circle");
    for (const char* path : {"down", "down/up", "around/b/up/down", "a/../a/./b", "around/b/.."}) {
        CAPTURE(path);
        CHECK(real_path((root / path).string()) == fs::canonical(root / path).string());
    }
    CHECK(real_path((root / "dangling").string()) == (root / "x").string());
    CHECK(real_path((root / "circle/y").string()) == (root / "circle/y").string());
    CHECK(real_path("/") == "/");
    CHECK(real_path("/../..") == "/");
    CHECK(is_within("/a/b", "/a"));
    CHECK(is_within("/a", "/a"));
    CHECK_FALSE(is_within("/ab", "/a"));
}

}  // namespace keepstep::tests
