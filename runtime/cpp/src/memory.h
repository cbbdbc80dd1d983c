// Memory from the system: zeros of our own, and files as they lie on the disk.
#pragma once

#include <cstddef>

namespace keepstep::internal {

class File;

/// Pages of memory, given back at the end. The first address is a multiple of 256.
class Pages {
  public:
    Pages() = default;
    Pages(Pages&& other) noexcept;
    Pages& operator=(Pages&& other) noexcept;
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    ~Pages();

    /// `size` bytes of zeros. Throws a backend error when that is more than is free.
    static Pages zeros(std::size_t size);

    /// A whole file, to be read only; nothing is read before it is looked at. Throws a
    /// `std::system_error` when it cannot be mapped.
    static Pages of_file(const File& file);

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

  private:
    Pages(std::byte* data, std::size_t size) noexcept : data_(data), size_(size) {}

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace keepstep::internal
