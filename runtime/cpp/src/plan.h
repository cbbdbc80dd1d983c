// The plan as data: the same words and fields as docs/plan-format.md, nothing more.
//
// Reading is in plan_json.h, the numbered rules in validate.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keepstep/tensor.h"
#include "ordered_map.h"

namespace keepstep::internal {

constexpr std::int64_t format_version = 2;  // the newest; older ones are read as well
constexpr std::int64_t alignment = 256;  // bytes; every offset in the arena is a multiple of it

constexpr std::array<std::string_view, 5> value_kinds = {"constant", "input", "output", "scratch",
                                                         "state"};

/// Element type and static shape, as the file writes them: the words are rule 6, sizes rule 7.
struct Type {
    std::string dtype;
    std::vector<std::int64_t> shape;

    friend bool operator==(const Type& a, const Type& b) {
        return a.dtype == b.dtype && a.shape == b.shape;
    }
    friend bool operator!=(const Type& a, const Type& b) { return !(a == b); }
};

/// The dtype of that name in a plan; nothing when there is none.
std::optional<DType> dtype_named(std::string_view name);
/// Whether its elements are floating-point numbers.
bool is_float(DType dtype) noexcept;
/// Bytes without padding, INT64_MAX where they are more than that; a scalar has one element.
std::int64_t bytes_of(const Type& type);
/// A type as a person writes it, such as `float32[2, 4]`; its first axes where it has more than
/// plans know.
std::string type_text(const Type& type);

/// The lowest and the highest that an element of an input may be.
struct Range {
    double lowest = 0;
    double highest = 0;
};

/// A range as a person writes it, such as `0 to 49407`.
std::string range_text(const Range& range);

/// What an input holds where nobody gives it: one entry for all, or those of its last axis.
struct Default {
    std::vector<double> entries;  // a boolean is 0 or 1
    std::size_t booleans = 0;     // how many of them are written as booleans
    bool is_list = false;
};

/// A named static buffer.
struct Value {
    std::string kind;
    Type type;
    std::optional<std::int64_t> offset;  // in the arena, bytes; none for constants
    std::optional<std::string> file;     // of a constant
    std::optional<std::string> tensor;   // of a constant: its name in the file
    bool feed = false;                   // a scratch value that the caller may give
    std::optional<Range> range;          // of an input
    std::optional<Default> fallback;     // of an input: its `default`
};

/// A value, or the rows of it that begin at `row` of its first axis.
struct Binding {
    std::string value;
    std::optional<std::int64_t> row;
};

/// A static-shape subgraph and the engines built from it.
struct Stage {
    OrderedMap<Type> inputs;
    OrderedMap<Type> outputs;
    OrderedMap<std::string> engines;  // backend → path in the bundle
    OrderedMap<std::string> weights;  // tensor → constant value
    std::int64_t macs = 0;       // multiply–accumulate operations of one launch
    OrderedMap<std::string> in_place;  // output → input in whose memory it is
};

/// One launch of one stage.
struct Call {
    std::string stage;
    OrderedMap<Binding> reads;
    OrderedMap<Binding> writes;
    std::optional<std::int64_t> step;  // index into `Plan::steps`
};

/// One call of the sampler, and what it was turned into; without a launch, it costs nothing.
struct Step {
    std::string label;  // free text, for people; in format 1 the kind: full, shallow or skip
    double timestep = 0;
    std::optional<std::int64_t> kept;  // tokens that pruned self-attention keeps
};

/// One denoising run as a straight-line program.
struct Plan {
    std::string name;
    OrderedMap<Value> values;
    OrderedMap<Stage> stages;
    std::vector<Call> calls;
    std::vector<Step> steps;
    std::int64_t arena_bytes = 0;
    std::int64_t version = format_version;
};

/// How prompts become the token ids of one input.
struct Tokenizer {
    std::string file;
    std::int64_t length = 0;
    std::int64_t pad = 0;
};

/// What a bundle says of one of its files.
struct FileEntry {
    std::int64_t bytes = 0;
    std::string sha256;  // 64 hex digits, small letters
};

/// The content of bundle.json.
struct Manifest {
    std::string producer;
    OrderedMap<std::string> model;
    std::vector<std::string> plans;
    OrderedMap<FileEntry> files;
    OrderedMap<Tokenizer> tokenizers;
};

}  // namespace keepstep::internal
