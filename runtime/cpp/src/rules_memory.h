// Rules 14 to 18 of docs/plan-format.md: who reads and writes which bytes, and when.
//
// All of it is arithmetic on intervals of bytes: a plan of gigabytes costs no more than one of
// bytes.
#pragma once

#include "plan.h"
#include "rules_values.h"

namespace keepstep::internal {

/// In one call, no written byte is also read, and no byte is written twice. But for what a stage
/// does `in_place`: its output is in the memory of that one input, and no other tensor of the call.
Finding rule_14_aliasing(const Plan& plan);
/// Of a `scratch` or `output` value every byte read has been written by an earlier call.
/// `input`, `constant` and `state` are there from the start. A `feed` value is not: it need not be
/// given, and then the calls that write it must come before those that read it.
Finding rule_15_written_before_read(const Plan& plan);
/// Bytes of a `state` value that are read before the run wrote them are written by no call.
Finding rule_16_no_trace(const Plan& plan);
/// Two values share memory only if they are never alive together.
/// A value is alive from its first write (`input`, `feed`: from the start; `state`: always) to its
/// last read or write (`output`: to the end; `state`: always), both calls included.
Finding rule_17_liveness(const Plan& plan);
/// Every `output` is written, every byte of it.
Finding rule_18_outputs(const Plan& plan);

}  // namespace keepstep::internal
