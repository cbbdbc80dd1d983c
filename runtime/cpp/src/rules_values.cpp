#include "rules_values.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "paths.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::size_t max_axes = Shape::max_axes;
constexpr std::int64_t max_axis = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t max_bytes = std::int64_t{1} << 40;
constexpr std::size_t longest_name = 200;
constexpr std::string_view name_characters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-";

template <std::size_t n>
std::vector<std::string> words(const std::array<std::string_view, n>& known) {
    return {known.begin(), known.end()};
}

std::vector<std::string> dtype_words() {
    std::vector<std::string> known;
    for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
        known.emplace_back(dtype_name(static_cast<DType>(i)));
    }
    return known;
}

std::string unknown_word(const std::string& what, const std::string& found,
                         const std::vector<std::string>& known) {
    return "unknown " + what + " " + quote(found) + did_you_mean(found, known) +
           "; known: " + quote_names(known);
}

/// The first finding of `find(place, type)` over the types of values and of stages' tensors.
template <class Find>
Finding first_type(const Plan& plan, Find find) {
    for (const auto& [name, value] : plan.values) {
        if (Finding found = find("values." + name, value.type)) return found;
    }
    for (const auto& [name, stage] : plan.stages) {
        for (const auto& [tensor, type] : stage.inputs) {
            if (Finding found = find("stages." + name + ".inputs." + tensor, type)) return found;
        }
        for (const auto& [tensor, type] : stage.outputs) {
            if (Finding found = find("stages." + name + ".outputs." + tensor, type)) return found;
        }
    }
    return std::nullopt;
}

/// The least and the greatest number of a dtype, of int64 those that every reader of JSON has;
/// nothing for what is no number.
std::optional<Range> limits_of(DType dtype) {
    const auto around_zero = [](double most) { return Range{-most, most}; };
    switch (dtype) {
        case DType::float32: return around_zero(std::ldexp(1.0, 128) - std::ldexp(1.0, 104));
        case DType::float16: return around_zero(65504);
        case DType::bfloat16: return around_zero(std::ldexp(1.0, 128) - std::ldexp(1.0, 120));
        case DType::int64: return around_zero(std::ldexp(1.0, 53));
        case DType::int32: return Range{-std::ldexp(1.0, 31), std::ldexp(1.0, 31) - 1};
        case DType::uint8: return Range{0, 255};
        case DType::boolean: break;
    }
    return std::nullopt;
}

/// What keeps two numbers from being a range of a dtype that there is.
Finding range_fault(const Range& range, const std::string& dtype) {
    const DType known = dtype_named(dtype).value();
    const std::optional<Range> limits = limits_of(known);
    const std::string text = range_text(range);
    if (!limits) return dtype + " has none";
    if (range.lowest > range.highest) return "expected [lowest, highest], found " + text;
    if (range.lowest < limits->lowest || range.highest > limits->highest) {
        return text + " does not fit " + dtype;
    }
    const bool whole = std::trunc(range.lowest) == range.lowest &&
                       std::trunc(range.highest) == range.highest;
    if (!is_float(known) && !whole) {
        return "expected whole numbers for " + dtype + ", found " + text;
    }
    return std::nullopt;
}

std::string number_text(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", number);
    return text;
}

/// What keeps a default from filling an input of a dtype that there is.
Finding default_fault(const Default& fallback, const Value& value) {
    const std::vector<std::int64_t>& shape = value.type.shape;
    const DType dtype = dtype_named(value.type.dtype).value();
    const std::size_t count = fallback.entries.size();
    if (fallback.is_list && (shape.empty() || shape.back() != static_cast<std::int64_t>(count))) {
        return std::to_string(count) + " entries do not fit the last axis of " +
               type_text(value.type);
    }
    const std::optional<Range> limits = limits_of(dtype);
    if (fallback.booleans != (limits ? 0 : count)) {
        return "expected " + std::string(limits ? "numbers" : "true or false") + " for " +
               value.type.dtype;
    }
    if (!limits) return std::nullopt;
    for (const double entry : fallback.entries) {
        if (entry < limits->lowest || entry > limits->highest) {
            return number_text(entry) + " does not fit " + value.type.dtype;
        }
        if (!is_float(dtype) && std::trunc(entry) != entry) {
            return "expected whole numbers for " + value.type.dtype + ", found " +
                   number_text(entry);
        }
        if (value.range && (entry < value.range->lowest || entry > value.range->highest)) {
            return number_text(entry) + " lies outside of the range " + range_text(*value.range);
        }
    }
    return std::nullopt;
}

/// The first name of a map that is none.
template <class T>
Finding first_name(const std::string& place, const OrderedMap<T>& things) {
    for (const auto& [name, _] : things) {
        if (const Finding fault = name_fault(name)) return place + ": " + *fault;
    }
    return std::nullopt;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> plan_paths(const Plan& plan) {
    std::vector<std::pair<std::string, std::string>> found;
    for (const auto& [name, value] : plan.values) {
        if (value.file) found.emplace_back("values." + escape(name) + ".file", *value.file);
    }
    for (const auto& [name, stage] : plan.stages) {
        for (const auto& [backend, path] : stage.engines) {
            found.emplace_back("stages." + escape(name) + ".engines." + escape(backend), path);
        }
    }
    return found;
}

Finding name_fault(const std::string& name) {
    if (!name.empty() && name.size() <= longest_name &&
        name.find_first_not_of(name_characters) == name.npos) {
        return std::nullopt;
    }
    return "expected 1 to 200 characters out of A-Z a-z 0-9 _ . : / -, found " + quote(name);
}

Finding plan_name_fault(const std::string& name) {
    if (Finding fault = name_fault(name)) return fault;
    if (name.find_first_of("/:") != name.npos) {
        return "the name of a plan has no '/' and no ':', found " + quote(name);
    }
    if (name[0] == '.') {
        return "the name of a plan does not begin with '.', found " + quote(name);
    }
    return std::nullopt;
}

Finding rule_3_paths(const Plan& plan) {
    for (const auto& [place, path] : plan_paths(plan)) {
        if (const auto fault = path_fault(path)) {
            return place + ": path " + quote(path) + " " + *fault;
        }
    }
    return std::nullopt;
}

Finding rule_5_names(const Plan& plan) {
    if (const Finding fault = plan_name_fault(plan.name)) return "name: " + *fault;
    if (Finding found = first_name("values", plan.values)) return found;
    for (const auto& [name, value] : plan.values) {
        if (!value.tensor) continue;
        if (const Finding fault = name_fault(*value.tensor)) {
            return "values." + name + ".tensor: " + *fault;
        }
    }
    if (Finding found = first_name("stages", plan.stages)) return found;
    for (const auto& [name, stage] : plan.stages) {
        const std::string place = "stages." + name;
        if (Finding found = first_name(place + ".inputs", stage.inputs)) return found;
        if (Finding found = first_name(place + ".outputs", stage.outputs)) return found;
        if (Finding found = first_name(place + ".weights", stage.weights)) return found;
        if (Finding found = first_name(place + ".engines", stage.engines)) return found;
    }
    return std::nullopt;
}

Finding rule_6_enums(const Plan& plan) {
    for (const auto& [name, value] : plan.values) {
        if (std::find(value_kinds.begin(), value_kinds.end(), value.kind) == value_kinds.end()) {
            return "values." + name + ".kind: " +
                   unknown_word("kind", value.kind, words(value_kinds));
        }
    }
    return first_type(plan, [](const std::string& place, const Type& type) -> Finding {
        if (dtype_named(type.dtype)) return std::nullopt;
        return place + ".dtype: " + unknown_word("dtype", type.dtype, dtype_words());
    });
}

Finding rule_7_sizes(const Plan& plan) {
    const auto fault = [](const std::string& place, const Type& type) -> Finding {
        const std::size_t axes = type.shape.size();
        if (axes > max_axes) {
            return place + ".shape: " + std::to_string(axes) + " axes, expected at most " +
                   std::to_string(max_axes);
        }
        for (const std::int64_t axis : type.shape) {
            if (axis < 1 || axis > max_axis) {
                return place + ".shape: an axis of " + std::to_string(axis) +
                       ", expected axes of 1 to 2^31-1";
            }
        }
        if (bytes_of(type) <= max_bytes) return std::nullopt;
        return place + ": " + type_text(type) + " has more bytes than 2^40";
    };
    if (Finding found = first_type(plan, fault)) return found;
    if (plan.arena_bytes <= max_bytes) return std::nullopt;
    return "arena_bytes: " + std::to_string(plan.arena_bytes) + ", expected at most 2^40";
}

Finding rule_8_fields(const Plan& plan) {
    for (const auto& [name, value] : plan.values) {
        const bool constant = value.kind == "constant";
        const std::string of_kind = "values." + name + ": kind " + value.kind;
        const std::pair<const char*, bool> fields[] = {{"file", value.file.has_value()},
                                                       {"tensor", value.tensor.has_value()},
                                                       {"offset", value.offset.has_value()}};
        for (const auto& [field, given] : fields) {
            const bool needed = constant == (field != std::string_view("offset"));
            if (needed && !given) return of_kind + " needs the field " + quote(field);
            if (!needed && given) return of_kind + " has no field " + quote(field);
        }
        if (value.feed && value.kind != "scratch") {
            return "values." + name + ": 'feed' stands at kind scratch only, found kind " +
                   value.kind;
        }
        const std::string place = "values." + name;
        const std::string misplaced = " stands at kind input only, found kind " + value.kind;
        if (value.range) {
            if (value.kind != "input") return place + ": 'range'" + misplaced;
            if (const Finding fault = range_fault(*value.range, value.type.dtype)) {
                return place + ".range: " + *fault;
            }
        }
        if (value.fallback) {
            if (value.kind != "input") return place + ": 'default'" + misplaced;
            if (const Finding fault = default_fault(*value.fallback, value)) {
                return place + ".default: " + *fault;
            }
        }
    }
    return std::nullopt;
}

Finding rule_9_offsets(const Plan& plan) {
    for (const auto& [name, value] : plan.values) {
        if (!value.offset) continue;
        if (*value.offset % alignment != 0) {
            return "values." + name + ".offset: " + std::to_string(*value.offset) +
                   " is no multiple of " + std::to_string(alignment);
        }
        const std::int64_t end = *value.offset + bytes_of(value.type);  // at most 2^53 + 2^40
        if (end > plan.arena_bytes) {
            return "values." + name + ": ends at byte " + std::to_string(end) + " of an arena of " +
                   std::to_string(plan.arena_bytes);
        }
    }
    return std::nullopt;
}

Finding rule_10_constants(const Plan& plan, const Constants& constants) {
    for (const auto& [name, value] : plan.values) {
        if (!value.file || !value.tensor) continue;
        const std::optional<Type> found = constants(*value.file, *value.tensor);
        if (!found) {
            return "values." + name + ": " + quote(*value.file) + " holds no tensor " +
                   quote(*value.tensor);
        }
        if (*found != value.type) {
            return "values." + name + ": expected " + type_text(value.type) + ", found " +
                   type_text(*found) + " in " + quote(*value.file);
        }
    }
    return std::nullopt;
}

}  // namespace keepstep::internal
