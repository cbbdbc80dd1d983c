// How often a program has asked `operator new` for memory.
#pragma once

#include <atomic>

namespace keepstep::tests {

/// Of the whole program that allocations.cpp is a part of.
extern std::atomic<long> allocations;

}  // namespace keepstep::tests
