#include "png.h"

#include <new>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

namespace keepstep::tool {

std::string png_of(const std::uint8_t* pixels, std::size_t batch, std::size_t height,
                   std::size_t width) {
    const std::size_t row = width * 3;
    std::string beside;  // one picture, `batch` times as wide
    beside.reserve(batch * height * row);
    for (std::size_t y = 0; y < height; ++y) {
        for (std::size_t i = 0; i < batch; ++i) {
            const auto* begin = reinterpret_cast<const char*>(pixels + (i * height + y) * row);
            beside.append(begin, row);
        }
    }
    std::string file;
    const auto append = [](void* target, void* data, int size) {
        static_cast<std::string*>(target)->append(static_cast<const char*>(data),
                                                  static_cast<std::size_t>(size));
    };
    const int written = stbi_write_png_to_func(append, &file, static_cast<int>(batch * width),
                                               static_cast<int>(height), 3, beside.data(),
                                               static_cast<int>(batch * row));
    if (written == 0) throw std::bad_alloc();  // nothing else can go wrong in it
    return file;
}

}  // namespace keepstep::tool
