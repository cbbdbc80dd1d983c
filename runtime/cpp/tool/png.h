// Pictures as PNG files. Source: the PNG specification, https://www.w3.org/TR/png-3, and RFC 1950.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace keepstep::tool {

/// The most bytes that the pixels of one file may have: it has one chunk for them, of a length of
/// 31 bits.
constexpr std::size_t max_png_pixels = std::size_t{1} << 30;

/// The bytes of a PNG file: `batch` pictures side by side. `pixels` are uint8 (batch, height,
/// width, 3), red, green and blue, at most `max_png_pixels` bytes.
std::string png_of(const std::uint8_t* pixels, std::size_t batch, std::size_t height,
                   std::size_t width);

/// `data` as a zlib stream that is not compressed: what `png_of` puts in a file where zlib is not
/// in the build.
std::string zlib_stored(std::string_view data);

}  // namespace keepstep::tool
