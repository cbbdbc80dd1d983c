#include "marked_arena.h"

#include <map>
#include <string>

#include "demands.h"

namespace keepstep::fuzz {

using internal::Binding;
using internal::Call;
using internal::OrderedMap;
using internal::Stage;
using internal::Type;
using internal::Value;

MarkedArena::MarkedArena(const internal::Plan& plan)
    : plan_(plan), marks_(static_cast<std::size_t>(plan.arena_bytes)) {
    for (const auto& [_, value] : plan.values) {
        if (value.kind == "state") write(whole(value), 0);
    }
}

void MarkedArena::run(const std::vector<std::size_t>& launches, bool fed) {
    ++run_;
    for (const auto& [_, value] : plan_.values) {
        if (value.kind == "input" || (value.feed && fed)) write(whole(value), ++writers_);
    }
    for (const std::size_t call : launches) launch(call);
    for (const auto& [_, value] : plan_.values) {
        if (value.kind == "output") demand_held(whole(value));
    }
}

void MarkedArena::launch(std::size_t index) {
    const Call& call = plan_.calls[index];
    const Stage& stage = plan_.stages.at(call.stage);
    const std::vector<Bytes> reads = bytes_of(call.reads, stage.inputs);
    const std::vector<Bytes> writes = bytes_of(call.writes, stage.outputs);
    for (const Bytes& read : reads) demand_held(read);
    const std::size_t before = writers_;
    for (const Bytes& written : writes) {
        for (std::size_t i = written.begin; i < written.end; ++i) {
            demand(marks_[i].writer <= before, "no byte is written twice by a call");
        }
        write(written, ++writers_);
    }
    const std::vector<std::size_t> writers = writers_in_place(call, stage, before);
    for (std::size_t r = 0; r < reads.size(); ++r) {
        for (std::size_t i = reads[r].begin; i < reads[r].end; ++i) {
            demand(marks_[i].writer <= before || marks_[i].writer == writers[r],
                   "no call writes what it reads, but for the output in the input's place");
            demand(writers[r] == 0 || marks_[i].writer == writers[r],
                   "an output in an input's place has all its bytes");
        }
    }
}

std::vector<std::size_t> MarkedArena::writers_in_place(const Call& call, const Stage& stage,
                                                       std::size_t before) const {
    std::map<std::string, std::size_t> writer_of;  // input → its output's number
    for (const auto& [output, input] : stage.in_place) {
        std::size_t place = 0;
        for (const auto& [tensor, _] : call.writes) {
            ++place;  // nothing writes a constant: every output is a tensor in the arena
            if (tensor == output) writer_of[input] = before + place;
        }
    }
    std::vector<std::size_t> found;
    for (const auto& [tensor, binding] : call.reads) {
        if (plan_.values.at(binding.value).kind == "constant") continue;
        const auto writer = writer_of.find(tensor);
        found.push_back(writer == writer_of.end() ? 0 : writer->second);
    }
    return found;
}

std::vector<MarkedArena::Bytes> MarkedArena::bytes_of(const OrderedMap<Binding>& bound,
                                                      const OrderedMap<Type>& tensors) const {
    std::vector<Bytes> found;
    for (const auto& [tensor, binding] : bound) {
        const Value& value = plan_.values.at(binding.value);
        std::size_t row_bytes = 0;
        if (binding.row) {
            Type row = value.type;
            row.shape[0] = 1;
            row_bytes = static_cast<std::size_t>(internal::bytes_of(row));
        }
        const std::size_t first = row_bytes * static_cast<std::size_t>(binding.row.value_or(0));
        const auto bytes = static_cast<std::size_t>(internal::bytes_of(tensors.at(tensor)));
        demand(first + bytes <= static_cast<std::size_t>(internal::bytes_of(value.type)),
               "a tensor lies in its value:", tensor);
        if (value.kind == "constant") continue;
        const std::size_t begin = whole(value).begin + first;
        found.push_back({&value, begin, begin + bytes});
    }
    return found;
}

MarkedArena::Bytes MarkedArena::whole(const Value& value) const {
    const auto begin = static_cast<std::size_t>(value.offset.value());
    const auto end = begin + static_cast<std::size_t>(internal::bytes_of(value.type));
    demand(end <= marks_.size(), "a value lies in the arena");
    return {&value, begin, end};
}

void MarkedArena::write(const Bytes& bytes, std::size_t writer) {
    for (std::size_t i = bytes.begin; i < bytes.end; ++i) marks_[i] = {bytes.value, run_, writer};
}

void MarkedArena::demand_held(const Bytes& bytes) const {
    for (std::size_t i = bytes.begin; i < bytes.end; ++i) {
        const Mark& mark = marks_[i];
        demand(mark.value == bytes.value, "what is read is there");
        demand(mark.run == run_ || (mark.run == 0 && bytes.value->kind == "state"),
               "a run sees nothing of the one before");
    }
}

}  // namespace keepstep::fuzz
