#include "allocations.h"

#include <cstdlib>
#include <new>

std::atomic<long> keepstep::tests::allocations = 0;

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    ++keepstep::tests::allocations;
    return std::malloc(size == 0 ? 1 : size);
}

// Arrays come to this one.
void* operator new(std::size_t size) {
    if (void* memory = operator new(size, std::nothrow)) return memory;
    throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
