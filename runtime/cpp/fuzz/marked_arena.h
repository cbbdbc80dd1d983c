// An accepted plan played byte by byte: rules 9 to 18 seen from the other end.
//
// The rules are arithmetic on intervals. Here nothing is computed: every byte of the arena has a
// mark that says for which value it was written, and in which run, and calls look at the marks of
// what they read.
#pragma once

#include <cstddef>
#include <vector>

#include "plan.h"

namespace keepstep::fuzz {

/// The arena of a plan, which outlives it.
class MarkedArena {
  public:
    explicit MarkedArena(const internal::Plan& plan);

    /// Plays the calls of `launches` where all inputs are given, and all feeds, too, if `fed`.
    /// Demands that every call reads what its values hold, that its outputs lie beside what it
    /// reads or in the place of an input, that nothing is seen of an earlier run, and that all outputs are there at the end.
    void run(const std::vector<std::size_t>& launches, bool fed);

  private:
    /// What a byte holds.
    struct Mark {
        const internal::Value* value = nullptr;
        int run = 0;  // 0: zeros from the beginning
        std::size_t writer = 0;  // the number of the tensor that was written here last
    };
    /// Where a tensor of a call lies.
    struct Bytes {
        const internal::Value* value;
        std::size_t begin;
        std::size_t end;
    };

    void launch(std::size_t call);
    /// The tensors that are bound to values in the arena; demands that they lie in them.
    std::vector<Bytes> bytes_of(const internal::OrderedMap<internal::Binding>& bound,
                                const internal::OrderedMap<internal::Type>& tensors) const;
    /// For every tensor that is read in the arena the number of the output that is in its place, if
    /// one is, else 0; `before` is the number of the last tensor before the call.
    std::vector<std::size_t> writers_in_place(const internal::Call& call,
                                              const internal::Stage& stage,
                                              std::size_t before) const;
    Bytes whole(const internal::Value& value) const;
    void write(const Bytes& bytes, std::size_t writer);
    void demand_held(const Bytes& bytes) const;

    const internal::Plan& plan_;
    std::vector<Mark> marks_;
    int run_ = 0;
    std::size_t writers_ = 0;  // tensors written so far
};

}  // namespace keepstep::fuzz
