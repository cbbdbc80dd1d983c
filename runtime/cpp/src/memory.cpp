#include "memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "error.h"
#include "files.h"

namespace keepstep::internal {

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Pages& Pages::operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

Pages::~Pages() {
    if (data_ != nullptr) munmap(data_, size_);
}

Pages Pages::zeros(std::size_t size) {
    if (size == 0) return {};
    void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        throw_backend_error("the plan needs " + std::to_string(size) +
                            " bytes of memory, more than is free");
    }
    return {static_cast<std::byte*>(data), size};
}

Pages Pages::of_file(const File& file) {
    if (file.size() == 0) return {};  // of nothing there is no mapping
    void* data = mmap(nullptr, file.size(), PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    if (data == MAP_FAILED) throw std::system_error(errno, std::generic_category());
    return {static_cast<std::byte*>(data), file.size()};
}

}  // namespace keepstep::internal
