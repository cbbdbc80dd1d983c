#include "inputs.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "error.h"
#include "floats.h"
#include "plan.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

template <class T>
T element(const ConstTensor& given, std::size_t index) {
    T found;  // the caller's memory may be unaligned
    std::memcpy(&found, static_cast<const std::byte*>(given.data) + index * sizeof found,
                sizeof found);
    return found;
}

/// Elements outside of a range: how many, and the first of them.
struct Outside {
    std::size_t count = 0;
    std::size_t first = 0;
    std::string number;
};

/// Bounds are compared in a type that holds them and every element.
template <class Wide, class Element>
Outside outside(std::size_t count, const Range& range, Element element_at) {
    const auto lowest = static_cast<Wide>(range.lowest);
    const auto highest = static_cast<Wide>(range.highest);
    Outside found;
    for (std::size_t i = 0; i < count; ++i) {
        const Wide number = element_at(i);
        if (lowest <= number && number <= highest) continue;
        if (found.count++ > 0) continue;
        found.first = i;
        char text[32];
        std::snprintf(text, sizeof text, "%.17g", static_cast<double>(number));
        found.number = std::is_integral_v<Wide> ? std::to_string(number) : text;
    }
    return found;
}

Outside outside(const ConstTensor& given, const Range& range) {
    const std::size_t count = given.bytes / item_bytes(given.dtype);
    const auto whole = [&](auto like) {
        return outside<std::int64_t>(count, range, [&](std::size_t i) {
            return std::int64_t{element<decltype(like)>(given, i)};
        });
    };
    const auto real = [&](auto like, auto number) {
        return outside<double>(
            count, range, [&](std::size_t i) { return number(element<decltype(like)>(given, i)); });
    };
    switch (given.dtype) {
        case DType::int64: return whole(std::int64_t{});
        case DType::int32: return whole(std::int32_t{});
        case DType::uint8: return whole(std::uint8_t{});
        case DType::float32: return real(float{}, [](float x) { return double{x}; });
        case DType::float16: return real(std::uint16_t{}, number_of_half);
        case DType::bfloat16: return real(std::uint16_t{}, number_of_bfloat16);
        case DType::boolean: break;  // has no range
    }
    return {};
}

/// The place of an element, such as `[0, 3]`.
std::string place_of(std::size_t index, const Shape& shape) {
    std::string text;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
        const auto length = static_cast<std::size_t>(shape[axis]);
        text = std::to_string(index % length) + (text.empty() ? "" : ", ") + text;
        index /= length;
    }
    return "[" + text + "]";
}

}  // namespace

TensorType public_type(const std::string& name, const Type& type) {
    return {name, dtype_named(type.dtype).value(), Shape(type.shape.data(), type.shape.size()),
            static_cast<std::size_t>(bytes_of(type))};
}

std::string type_text(DType dtype, const Shape& shape) {
    const Type type{dtype_name(dtype), {shape.begin(), shape.end()}};
    return type_text(type);
}

std::vector<std::byte> default_bytes(const Default& fallback, const TensorType& type) {
    std::vector<std::byte> bytes(type.bytes);
    const std::size_t size = item_bytes(type.dtype);
    for (std::size_t i = 0; i < type.bytes / size; ++i) {
        const double entry = fallback.entries[i % fallback.entries.size()];
        const auto put = [&](auto element) {
            std::memcpy(bytes.data() + i * size, &element, sizeof element);
        };
        switch (type.dtype) {
            case DType::float32: put(static_cast<float>(entry)); break;
            case DType::float16: put(half_of_number(static_cast<float>(entry))); break;
            case DType::bfloat16: put(bfloat16_of_number(static_cast<float>(entry))); break;
            case DType::int64: put(static_cast<std::int64_t>(entry)); break;
            case DType::int32: put(static_cast<std::int32_t>(entry)); break;
            case DType::uint8:
            case DType::boolean: put(static_cast<std::uint8_t>(entry)); break;
        }
    }
    return bytes;
}

void check_tensor(const char* what, const ConstTensor& given, const TensorType& expected) {
    const auto refuse = [&](const std::string& found) {
        throw_input_error(std::string(what) + " " + quote(given.name) + ": expected " +
                          type_text(expected.dtype, expected.shape) + ", found " + found);
    };
    if (given.dtype != expected.dtype) {
        refuse("dtype " + std::string(dtype_name(given.dtype)) + "; dtypes are never converted");
    }
    if (given.shape != expected.shape) {
        refuse(type_text(given.dtype, given.shape) +
               (given.shape.size() > Shape::max_axes ? " and more axes" : "") +
               "; the plan is for this shape only: give it, or export with another");
    }
    if (given.bytes != expected.bytes) {
        refuse(std::to_string(given.bytes) + " bytes of memory; give all " +
               std::to_string(expected.bytes));
    }
    if (given.data == nullptr) refuse("a null pointer");
}

void check_elements(const ConstTensor& given) {
    std::size_t bad = 0;
    const char* fault = "NaN or infinite; every element must be finite";
    if (is_float(given.dtype)) {
        bad = count_not_finite(given.dtype, given.data, given.bytes);
    } else if (given.dtype == DType::boolean) {
        const auto* bytes = static_cast<const std::uint8_t*>(given.data);
        for (std::size_t i = 0; i < given.bytes; ++i) bad += bytes[i] > 1 ? 1 : 0;
        fault = "neither 0 nor 1";
    }
    if (bad == 0) return;
    throw_input_error("input " + quote(given.name) + ": " + std::to_string(bad) + " of " +
                      std::to_string(given.bytes / item_bytes(given.dtype)) + " elements are " +
                      fault);
}

void check_range(const ConstTensor& given, const Range& range) {
    const Outside found = outside(given, range);
    if (found.count == 0) return;
    throw_input_error("input " + quote(given.name) + ": " + found.number + " at " +
                      place_of(found.first, given.shape) + " lies outside of the range " +
                      range_text(range) + ", and so do " + std::to_string(found.count) + " of " +
                      std::to_string(given.bytes / item_bytes(given.dtype)) +
                      " elements; the model knows no others: give what its own tokenizer, or the "
                      "like, makes");
}

}  // namespace keepstep::internal
