#include <doctest/doctest.h>

#include <algorithm>

#include "sha256.h"

namespace keepstep::tests {
namespace {

std::string digest(const std::string& text, internal::Sha256Blocks blocks) {
    internal::Sha256 sha(blocks);
    sha.add(text.data(), text.size());
    return sha.hex_digest();
}

/// By both ways; they are the same one where the machine knows no other.
std::string digest(const std::string& text) {
    const std::string found = digest(text, internal::sha256_blocks);
    CHECK(digest(text, internal::fastest_sha256_blocks()) == found);
    return found;
}

}  // namespace

TEST_CASE("digests are those of FIPS 180-4's examples") {
    CHECK(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(digest(std::string(1'000'000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("bytes may come in pieces of any size") {
    std::string text;
    for (int i = 0; i < 300; ++i) text += static_cast<char>(i);
    const std::string whole = digest(text);
    for (std::size_t piece = 1; piece < 140; ++piece) {
        internal::Sha256 sha;
        for (std::size_t at = 0; at < text.size(); at += piece) {
            sha.add(text.data() + at, std::min(piece, text.size() - at));
        }
        CHECK(sha.hex_digest() == whole);
    }
}

TEST_CASE("every length up to three blocks is padded as hashlib pads it") {
    // The SHA-256 of the digests of "", "a", "aa", … "a" * 191, written one after the other.
    std::string all;
    for (std::size_t length = 0; length < 192; ++length) all += digest(std::string(length, 'a'));
    CHECK(digest(all) == "1a6d8ce02db1227592feff5f9b6f536accc7d224327afbd823c8b39bd1181a34");
}

}  // namespace keepstep::tests
