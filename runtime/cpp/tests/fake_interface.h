// Objects of TensorRT's interfaces with a few of their functions, in the places where the headers
// have them; any other function ends the program.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <typeinfo>

#include "fake_tensorrt.h"

namespace keepstep::tests {

namespace trt = nvinfer1;
namespace api = nvinfer1::apiv;

inline void unexpected() {
    std::fputs("a function of TensorRT that the fake has not\n", stderr);
    std::abort();
}

/// A table of virtual functions, as the compiler lays it out, with a few of them there.
template <class Interface>
struct Table {
    std::ptrdiff_t offset = 0;
    const std::type_info* type = &typeid(Interface);
    std::array<void (*)(), 100> functions;

    Table() { functions.fill(unexpected); }
    /// Answers a member with a function that takes the object first.
    template <class Member, class Function>
    Table& with(Member member, Function function) {
        static_assert(sizeof(Member) == 2 * sizeof(std::size_t));
        std::size_t place;  // of a virtual one: 1 + its bytes behind the first
        std::memcpy(&place, &member, sizeof place);
        functions[place / sizeof(void*)] = reinterpret_cast<void (*)()>(function);
        return *this;
    }
};

/// An object with such a table, behind the one that callers hold.
template <class Interface>
struct Behind {
    const void* functions;
    void* holder;

    Behind(const Table<Interface>& table, void* held_by)
        : functions(table.functions.data()), holder(held_by) {
        ++fake_tensorrt().left;
    }
    ~Behind() { --fake_tensorrt().left; }
    Interface* get() { return reinterpret_cast<Interface*>(this); }
};

template <class Holder, class Interface>
Holder& held(Behind<Interface>* self) {
    return *static_cast<Holder*>(self->holder);
}

}  // namespace keepstep::tests
