// Tensors as callers see them: a type, and memory that somebody else owns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "keepstep/export.h"

namespace keepstep {

/// Element types of the plan format.
enum class DType : std::int32_t {
    float32 = 0,
    float16 = 1,
    bfloat16 = 2,
    int64 = 3,
    int32 = 4,
    uint8 = 5,
    boolean = 6,  ///< one byte, 0 or 1
};

/// The name of a dtype in a plan, such as "float32".
KEEPSTEP_API const char* dtype_name(DType dtype) noexcept;
/// Bytes of one element.
KEEPSTEP_API std::size_t item_bytes(DType dtype) noexcept;

/// Axes of a row-major tensor without padding, at most eight (rule 7); no axis: a scalar.
class Shape {
  public:
    static constexpr std::size_t max_axes = 8;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> axes) : Shape(axes.begin(), axes.size()) {}
    Shape(const std::int64_t* axes, std::size_t count) noexcept : count_(count) {
        for (std::size_t i = 0; i < count && i < max_axes; ++i) axes_[i] = axes[i];
    }

    /// How many axes; a shape of more than eight equals that of no plan.
    std::size_t size() const noexcept { return count_; }
    std::int64_t operator[](std::size_t axis) const noexcept { return axes_[axis]; }
    const std::int64_t* begin() const noexcept { return axes_.data(); }
    const std::int64_t* end() const noexcept {
        return axes_.data() + (count_ < max_axes ? count_ : max_axes);
    }
    friend bool operator==(const Shape& a, const Shape& b) noexcept {
        return a.count_ == b.count_ && a.axes_ == b.axes_;
    }
    friend bool operator!=(const Shape& a, const Shape& b) noexcept { return !(a == b); }

  private:
    std::array<std::int64_t, max_axes> axes_{};
    std::size_t count_ = 0;
};

/// Element type and static shape of an input, feed or output.
struct TensorType {
    std::string name;
    DType dtype = DType::float32;
    Shape shape;
    std::size_t bytes = 0;
};

/// Where memory lies.
enum class Device : std::int32_t {
    host = 0,
    cuda = 1,  ///< the GPU that the player plays on
};

/// Named memory that somebody else owns; `bytes` is how many lie at `data`.
template <class Memory>
struct BasicTensor {
    std::string_view name;
    DType dtype = DType::float32;
    Shape shape;
    Memory* data = nullptr;
    std::size_t bytes = 0;
    Device device = Device::host;

    /// What may be written may be read.
    operator BasicTensor<const Memory>() const noexcept {
        return {name, dtype, shape, data, bytes, device};
    }
};

using MutableTensor = BasicTensor<void>;
using ConstTensor = BasicTensor<const void>;

/// The dtype of a C++ type. Half precision has none: name it, over any type of two bytes.
template <class T>
constexpr DType dtype_of() noexcept {
    if constexpr (std::is_same_v<T, float>) return DType::float32;
    if constexpr (std::is_same_v<T, std::int64_t>) return DType::int64;
    if constexpr (std::is_same_v<T, std::int32_t>) return DType::int32;
    if constexpr (std::is_same_v<T, std::uint8_t>) return DType::uint8;
    if constexpr (std::is_same_v<T, bool>) return DType::boolean;
}

/// The memory of a vector, array or other container that is read: `tensor("noise", x, {1, 4})`.
template <class Container>
ConstTensor tensor(std::string_view name, const Container& values, const Shape& shape) noexcept {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(values.data())>>;
    return {name, dtype_of<T>(), shape, values.data(), values.size() * sizeof(T)};
}

/// The memory of a container that is written to.
template <class Container>
MutableTensor tensor(std::string_view name, Container& values, const Shape& shape) noexcept {
    using T = std::remove_pointer_t<decltype(values.data())>;
    return {name, dtype_of<T>(), shape, values.data(), values.size() * sizeof(T)};
}

/// Tensors one after the other, as a list in braces, a vector or an array; valid as long as those.
template <class T>
class Span {
  public:
    Span() = default;
    Span(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    // Assigned, not initialised: compilers warn that a list in braces dies with its expression,
    // and that is long enough for an argument.
    Span(std::initializer_list<T> list) noexcept : size_(list.size()) { data_ = list.begin(); }
    Span(const std::vector<T>& list) noexcept : data_(list.data()), size_(list.size()) {}
    template <std::size_t n>
    Span(const std::array<T, n>& list) noexcept : data_(list.data()), size_(n) {}

    const T* begin() const noexcept { return data_; }
    const T* end() const noexcept { return data_ + size_; }
    std::size_t size() const noexcept { return size_; }
    const T& operator[](std::size_t i) const noexcept { return data_[i]; }

  private:
    const T* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace keepstep
