// ONNX Runtime's C interface: its functions, their failures as errors, its objects as owners.
//
// Its C++ header is not used: what it keeps as globals is compiled into every program that includes
// it, and a program that embeds this library may include it, too, configured in another way.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <optional>
#include <string>

namespace keepstep::internal {

/// The functions of the library. Throws a backend error when it is older than the headers that
/// this was compiled with.
const OrtApi& ort();

/// The library's name for people, with its version.
std::string ort_title();

/// What the library says of a failure, as one printable line; nothing at success. Takes `status`.
std::optional<std::string> ort_fault(OrtStatus* status);

/// The way out where the library says that memory was too little; nothing where it says something
/// else.
std::optional<std::string> memory_fault(const std::string& fault);

/// Gives an object back to the library, by the function that `release` points to in `OrtApi`.
template <auto release>
struct OrtRelease {
    template <class T>
    void operator()(T* object) const noexcept {
        (ort().*release)(object);
    }
};

template <class T, auto release>
using OrtOwned = std::unique_ptr<T, OrtRelease<release>>;

using OwnedEnv = OrtOwned<OrtEnv, &OrtApi::ReleaseEnv>;
using OwnedOptions = OrtOwned<OrtSessionOptions, &OrtApi::ReleaseSessionOptions>;
using OwnedSession = OrtOwned<OrtSession, &OrtApi::ReleaseSession>;
using OwnedRunOptions = OrtOwned<OrtRunOptions, &OrtApi::ReleaseRunOptions>;
using OwnedBinding = OrtOwned<OrtIoBinding, &OrtApi::ReleaseIoBinding>;
using OwnedValue = OrtOwned<OrtValue, &OrtApi::ReleaseValue>;
using OwnedMemoryInfo = OrtOwned<OrtMemoryInfo, &OrtApi::ReleaseMemoryInfo>;
using OwnedTypeInfo = OrtOwned<OrtTypeInfo, &OrtApi::ReleaseTypeInfo>;

}  // namespace keepstep::internal
