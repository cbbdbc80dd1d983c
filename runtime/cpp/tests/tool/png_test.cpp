// Written by the tool, read here chunk by chunk as the specification says.
#include "png.h"

#include <doctest/doctest.h>

#include <numeric>
#include <stdexcept>
#include <vector>

#ifdef KEEPSTEP_ZLIB
#include <zlib.h>
#endif

namespace keepstep::tests {
namespace {

std::uint32_t number_at(const std::string& bytes, std::size_t at) {
    std::uint32_t number = 0;
    for (std::size_t i = at; i < at + 4; ++i) {
        number = number << 8 | static_cast<std::uint8_t>(bytes.at(i));
    }
    return number;
}

/// CRC by the specification's words, as the remainder of a division of bits.
std::uint32_t remainder_of(const std::string& bytes) {
    std::uint32_t remainder = 0;
    for (std::size_t bit = 0; bit < 8 * bytes.size() + 32; ++bit) {
        const std::size_t at = bit / 8;
        const auto byte = at < bytes.size() ? static_cast<std::uint8_t>(bytes[at]) : 0;
        const bool data = (byte >> bit % 8 & 1) != 0;
        const bool first = bit < 32;  // these are taken inverted
        const bool carry = (remainder & 1) != 0;
        remainder = remainder >> 1 | (data != first ? 0x80000000U : 0U);
        if (carry) remainder ^= 0xEDB88320;
    }
    return ~remainder;
}

/// What a zlib stream of stored blocks holds; throws for any other.
std::string stored(const std::string& stream) {
    std::string data;
    std::size_t at = 2;
    for (bool last = false; !last;) {
        last = stream.at(at) == 1;
        const auto byte = [&](std::size_t i) {
            return std::size_t{static_cast<std::uint8_t>(stream.at(at + i))};
        };
        const std::size_t length = byte(1) | byte(2) << 8;
        if ((length ^ (byte(3) | byte(4) << 8)) != 0xFFFF) throw std::runtime_error("length");
        data += stream.substr(at + 5, length);
        at += 5 + length;
    }
    std::uint32_t low = 1;
    std::uint32_t high = 0;
    for (const char c : data) {
        low = (low + static_cast<std::uint8_t>(c)) % 65521;
        high = (high + low) % 65521;
    }
    if (number_at(stream, at) != (high << 16 | low)) throw std::runtime_error("checksum");
    if (at + 4 != stream.size()) throw std::runtime_error("end");
    return data;
}

#ifdef KEEPSTEP_ZLIB
std::string inflated(const std::string& stream, std::size_t bytes) {
    std::string data(bytes + 1, '\0');
    uLongf size = data.size();
    const int code = uncompress(reinterpret_cast<Bytef*>(data.data()), &size,
                                reinterpret_cast<const Bytef*>(stream.data()), stream.size());
    if (code != Z_OK) throw std::runtime_error("no zlib stream");
    return data.substr(0, size);
}
#else
std::string inflated(const std::string& stream, std::size_t) { return stored(stream); }
#endif

/// The pixels of rows that begin with their filter's number: 0 as they are, 2 differences from the
/// row above.
std::vector<std::uint8_t> unfiltered(const std::string& rows, std::size_t width) {
    const std::size_t row = 3 * width;
    std::vector<std::uint8_t> pixels;
    for (std::size_t at = 0; at < rows.size(); at += 1 + row) {
        const bool differs = rows.at(at) == 2;
        if (!differs && rows.at(at) != 0) throw std::runtime_error("filter");
        for (std::size_t i = 1; i <= row; ++i) {
            const bool is_first = pixels.size() < row;
            const int above = is_first || !differs ? 0 : pixels[pixels.size() - row];
            pixels.push_back(static_cast<std::uint8_t>(rows.at(at + i) + above));
        }
    }
    return pixels;
}

struct Chunk {
    std::string type;
    std::string data;
};

std::vector<Chunk> chunks_of(const std::string& file) {
    CHECK(file.substr(0, 8) == "\x89PNG\r\n\x1A\n");
    std::vector<Chunk> chunks;
    for (std::size_t at = 8; at < file.size();) {
        const std::uint32_t length = number_at(file, at);
        chunks.push_back({file.substr(at + 4, 4), file.substr(at + 8, length)});
        const std::uint32_t crc = number_at(file, at + 8 + length);
        CHECK(crc == remainder_of(chunks.back().type + chunks.back().data));
        at += 12 + length;
    }
    return chunks;
}

std::vector<std::uint8_t> pixels_of(std::size_t bytes) {
    std::vector<std::uint8_t> pixels(bytes);
    for (std::size_t i = 0; i < bytes; ++i) pixels[i] = static_cast<std::uint8_t>(i * i * 31 + i);
    return pixels;
}

}  // namespace

TEST_CASE("the oracle of checksums gives the value that every PNG file ends with") {
    CHECK(remainder_of("IEND") == 0xAE426082);
}

TEST_CASE("a picture is read back from its file, pixel by pixel") {
    const std::pair<std::size_t, std::size_t> sizes[] = {{1, 1}, {3, 5}, {7, 2}, {200, 130}};
    for (const auto& [height, width] : sizes) {
        const auto pixels = pixels_of(height * width * 3);
        const auto chunks = chunks_of(tool::png_of(pixels.data(), 1, height, width));
        REQUIRE(chunks.size() == 3);
        CHECK(chunks[0].type == "IHDR");
        CHECK(number_at(chunks[0].data, 0) == width);
        CHECK(number_at(chunks[0].data, 4) == height);
        CHECK(chunks[0].data.substr(8) == std::string("\x08\x02\0\0\0", 5));
        CHECK(chunks[1].type == "IDAT");
        const std::string rows = inflated(chunks[1].data, height * (1 + 3 * width));
        CHECK(unfiltered(rows, width) == pixels);
        CHECK(chunks[2].type == "IEND");
        CHECK(chunks[2].data.empty());
    }
}

TEST_CASE("a batch lies side by side") {
    const std::vector<std::uint8_t> pixels = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4};  // (2, 2, 1, 3)
    const auto chunks = chunks_of(tool::png_of(pixels.data(), 2, 2, 1));
    CHECK(number_at(chunks[0].data, 0) == 2);
    CHECK(number_at(chunks[0].data, 4) == 2);
    CHECK(unfiltered(inflated(chunks[1].data, 14), 2) ==
          std::vector<std::uint8_t>{1, 1, 1, 3, 3, 3, 2, 2, 2, 4, 4, 4});
}

TEST_CASE("a stream that is not compressed is a zlib stream, of one block or of several") {
    for (const std::size_t size : {0, 1, 0xFFFF, 0x10000, 200'000}) {
        const auto bytes = pixels_of(size);
        const std::string data(bytes.begin(), bytes.end());
        const std::string stream = tool::zlib_stored(data);
        CHECK(stored(stream) == data);
        CHECK(inflated(stream, size) == data);
        CHECK(number_at(std::string(2, '\0') + stream, 0) % 31 == 0);  // RFC 1950, section 2.2
    }
}

}  // namespace keepstep::tests
