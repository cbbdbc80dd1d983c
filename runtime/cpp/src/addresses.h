// Where every tensor of every call lies in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "constants.h"
#include "plan.h"

namespace keepstep::internal {

/// Bytes of a value that lie before what `binding` means.
std::int64_t begin_in_value(const Type& value, const Binding& binding);

/// The address of each of `constant_parts`.
using ConstantAddresses = std::map<ConstantPart, const std::byte*>;

/// Tensors of a stage and where they lie.
using Addresses = std::vector<std::pair<std::string, std::byte*>>;

/// Where the tensors of one call lie; calls only read from constants.
struct CallAddresses {
    Addresses reads;
    Addresses writes;
};

/// For every call, the address of every tensor that it reads and writes.
std::vector<CallAddresses> call_addresses(const Plan& plan, std::byte* arena,
                                          const ConstantAddresses& constants);

/// The address of every weight of a stage.
Addresses weight_addresses(const Stage& stage, const ConstantAddresses& constants);

/// Throws a backend error where a call means rows of the arena that begin off the alignment.
void check_alignment(const Plan& plan);

}  // namespace keepstep::internal
