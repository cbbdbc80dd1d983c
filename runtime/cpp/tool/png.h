// Pictures as PNG files, by stb_image_write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace keepstep::tool {

/// The most bytes that the pixels of one file may have: stb counts in int, of twice as many bytes.
constexpr std::size_t max_png_pixels = std::size_t{1} << 28;

/// The bytes of a PNG file: `batch` pictures side by side. `pixels` are uint8 (batch, height,
/// width, 3), red, green and blue, at most `max_png_pixels` bytes. Throws `std::bad_alloc`.
std::string png_of(const std::uint8_t* pixels, std::size_t batch, std::size_t height,
                   std::size_t width);

}  // namespace keepstep::tool
