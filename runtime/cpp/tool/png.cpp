#include "png.h"

#include <algorithm>

#ifdef KEEPSTEP_ZLIB
#include <zlib.h>
#endif

namespace keepstep::tool {
namespace {

/// A number of four bytes, the highest first.
std::string four_bytes(std::uint32_t number) {
    std::string bytes;
    for (int bit = 24; bit >= 0; bit -= 8) bytes += static_cast<char>(number >> bit & 0xFF);
    return bytes;
}

std::uint32_t crc32_of(std::string_view data) {
    std::uint32_t crc = 0xFFFFFFFF;
    for (const char c : data) {
        crc ^= static_cast<std::uint8_t>(c);
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

std::uint32_t adler32_of(std::string_view data) {
    constexpr std::uint32_t modulus = 65521;
    std::uint32_t sum = 1;
    std::uint32_t sums = 0;
    for (const char c : data) {
        sum = (sum + static_cast<std::uint8_t>(c)) % modulus;
        sums = (sums + sum) % modulus;
    }
    return sums << 16 | sum;
}

std::string chunk(const std::string& type, const std::string& data) {
    return four_bytes(static_cast<std::uint32_t>(data.size())) + type + data +
           four_bytes(crc32_of(type + data));
}

std::string compressed(const std::string& data) {
#ifdef KEEPSTEP_ZLIB
    uLongf size = compressBound(static_cast<uLong>(data.size()));
    std::string stream(size, '\0');
    if (compress(reinterpret_cast<Bytef*>(stream.data()), &size,
                 reinterpret_cast<const Bytef*>(data.data()),
                 static_cast<uLong>(data.size())) == Z_OK) {
        return stream.substr(0, size);
    }
#endif
    return zlib_stored(data);
}

}  // namespace

std::string zlib_stored(std::string_view data) {
    constexpr std::size_t longest = 0xFFFF;  // of a block
    std::string stream = "\x78\x01";
    std::size_t at = 0;
    do {
        const std::size_t length = std::min(longest, data.size() - at);
        stream += at + length == data.size() ? '\1' : '\0';  // whether it is the last
        for (const std::size_t number : {length, ~length}) {
            stream += static_cast<char>(number & 0xFF);
            stream += static_cast<char>(number >> 8 & 0xFF);
        }
        stream += data.substr(at, length);
        at += length;
    } while (at < data.size());
    return stream + four_bytes(adler32_of(data));
}

std::string png_of(const std::uint8_t* pixels, std::size_t batch, std::size_t height,
                   std::size_t width) {
    const std::size_t row = width * 3;
    std::string rows;
    rows.reserve(height * (1 + batch * row));
    for (std::size_t y = 0; y < height; ++y) {
        rows += '\2';  // each byte as its difference from the one above: that compresses well
        for (std::size_t i = 0; i < batch; ++i) {
            const std::uint8_t* begin = pixels + (i * height + y) * row;
            for (const std::uint8_t* at = begin; at < begin + row; ++at) {
                rows += static_cast<char>(*at - (y == 0 ? 0 : *(at - row)));
            }
        }
    }
    const std::string size = four_bytes(static_cast<std::uint32_t>(batch * width)) +
                             four_bytes(static_cast<std::uint32_t>(height));
    const std::string form("\x08\x02\0\0\0", 5);  // 8 bits a channel, RGB; nothing out of the usual
    return "\x89PNG\r\n\x1A\n" + chunk("IHDR", size + form) + chunk("IDAT", compressed(rows)) +
           chunk("IEND", "");
}

}  // namespace keepstep::tool
