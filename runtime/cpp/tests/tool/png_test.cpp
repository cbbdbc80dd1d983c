// Written by the tool, read by stb_image, which is another program than the one that writes.
#include "png.h"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#include <stb_image.h>

namespace keepstep::tests {
namespace {

struct Picture {
    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> pixels;
};

Picture read(const std::string& file) {
    Picture found;
    int channels = 0;
    const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
        stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(file.data()),
                              static_cast<int>(file.size()), &found.width, &found.height, &channels,
                              0),
        &stbi_image_free);
    REQUIRE(pixels);
    CHECK(channels == 3);
    found.pixels.assign(pixels.get(), pixels.get() + 3 * found.width * found.height);
    return found;
}

std::vector<std::uint8_t> pixels_of(std::size_t bytes) {
    std::vector<std::uint8_t> pixels(bytes);
    for (std::size_t i = 0; i < bytes; ++i) pixels[i] = static_cast<std::uint8_t>(i * i * 31 + i);
    return pixels;
}

}  // namespace

TEST_CASE("a picture is read back from its file, pixel by pixel") {
    const std::pair<std::size_t, std::size_t> sizes[] = {{1, 1}, {3, 5}, {7, 2}, {200, 130}};
    for (const auto& [height, width] : sizes) {
        const auto pixels = pixels_of(height * width * 3);
        const Picture found = read(tool::png_of(pixels.data(), 1, height, width));
        CHECK(found.width == static_cast<int>(width));
        CHECK(found.height == static_cast<int>(height));
        CHECK(found.pixels == pixels);
    }
}

TEST_CASE("a batch lies side by side") {
    const std::vector<std::uint8_t> pixels = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4};  // (2, 2, 1, 3)
    const Picture found = read(tool::png_of(pixels.data(), 2, 2, 1));
    CHECK(found.width == 2);
    CHECK(found.height == 2);
    CHECK(found.pixels == std::vector<std::uint8_t>{1, 1, 1, 3, 3, 3, 2, 2, 2, 4, 4, 4});
}

}  // namespace keepstep::tests
