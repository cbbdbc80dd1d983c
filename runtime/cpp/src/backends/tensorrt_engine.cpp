#include "backends/tensorrt_engine.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "error.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

using nvinfer1::DataType;

#ifdef KEEPSTEP_TENSORRT_RTX
constexpr const char* title = "TensorRT-RTX";
#else
constexpr const char* title = "TensorRT";
#endif

// The oldest version whose functions lie where these headers say. The library itself does not ask
// which headers its caller has.
#if defined(TRT_MAJOR_RTX) == defined(KEEPSTEP_TENSORRT_RTX)
constexpr std::int32_t oldest = NV_TENSORRT_VERSION;
#elif defined(KEEPSTEP_TENSORRT_RTX)
// TensorRT's headers have the same functions in the same places as TensorRT-RTX has them since 1.5,
// but for those that TensorRT-RTX alone has.
static_assert(NV_TENSORRT_MAJOR >= 11, "TensorRT-RTX needs its headers, or those of TensorRT 11");
constexpr std::int32_t oldest = 10500;
#else
#error "These are the headers of TensorRT-RTX, and the library is TensorRT."
#endif
#ifdef TRT_MAJOR_RTX
static_assert(NV_TENSORRT_VERSION >= 10500, "TensorRT-RTX: 1.5 is the oldest that this is for");

using Diagnostics = nvinfer1::EngineInvalidityDiagnostics;
static_assert(static_cast<std::uint64_t>(Diagnostics::kVERSION_MISMATCH) == 1U << 0);
static_assert(static_cast<std::uint64_t>(Diagnostics::kUNSUPPORTED_CC) == 1U << 1);
static_assert(static_cast<std::uint64_t>(Diagnostics::kOLD_CUDA_DRIVER) == 1U << 2);
static_assert(static_cast<std::uint64_t>(Diagnostics::kOLD_CUDA_RUNTIME) == 1U << 3);
static_assert(static_cast<std::uint64_t>(Diagnostics::kINSUFFICIENT_GPU_MEMORY) == 1U << 4);
static_assert(static_cast<std::uint64_t>(Diagnostics::kMALFORMED_ENGINE) == 1U << 5);
static_assert(static_cast<std::uint64_t>(Diagnostics::kCUDA_ERROR) == 1U << 6);
#endif

// What `tensorrt_dtype` is written for.
static_assert(static_cast<std::int32_t>(DataType::kFLOAT) == 0);
static_assert(static_cast<std::int32_t>(DataType::kHALF) == 1);
static_assert(static_cast<std::int32_t>(DataType::kINT32) == 3);
static_assert(static_cast<std::int32_t>(DataType::kBOOL) == 4);
static_assert(static_cast<std::int32_t>(DataType::kUINT8) == 5);
static_assert(static_cast<std::int32_t>(DataType::kBF16) == 7);
static_assert(static_cast<std::int32_t>(DataType::kINT64) == 8);

/// Keeps the errors among what the library tells, from any of its threads.
class Log : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char* message) noexcept override {
        if (severity != Severity::kERROR && severity != Severity::kINTERNAL_ERROR) return;
        try {
            errors.add(message);
        } catch (...) {
            // There is no memory left for it.
        }
    }

    ToldErrors errors;
};

/// One for all, and for ever: the library holds on to the first that it is given.
Log& the_log() {
    static Log& log = *new Log;
    return log;
}

std::string gpu_text(const Gpu& gpu) {
    return gpu.name + " (compute capability " + std::to_string(gpu.major) + "." +
           std::to_string(gpu.minor) + ")";
}

/// Why the library says that an engine cannot run here; TensorRT does not say it beforehand.
std::uint64_t diagnostics_of([[maybe_unused]] const nvinfer1::IRuntime& runtime,
                             [[maybe_unused]] const std::byte* data,
                             [[maybe_unused]] std::size_t size) {
    std::uint64_t diagnostics = 0;
#ifdef TRT_MAJOR_RTX
    runtime.getEngineValidity(data, static_cast<std::int64_t>(size), &diagnostics);
#endif
    return diagnostics;
}

Type type_of(const nvinfer1::ICudaEngine& engine, const char* tensor) {
    Type type{tensorrt_dtype(static_cast<std::int32_t>(engine.getTensorDataType(tensor))), {}};
    const nvinfer1::Dims shape = engine.getTensorShape(tensor);
    for (std::int32_t i = 0; i < shape.nbDims; ++i) type.shape.push_back(shape.d[i]);
    return type;
}

}  // namespace

const std::string& library_title() {
    static const std::string text = std::string(title) + " " + version_text(getInferLibVersion());
    return text;
}

void check_library() {
    const std::string fault = version_fault(getInferLibVersion(), oldest);
    if (!fault.empty()) throw_backend_error(library_title() + " " + fault);
}

ToldErrors& told_errors() { return the_log().errors; }

Engine::Engine(const std::byte* data, std::size_t size, const Gpu& gpu, std::string kernels,
               const std::string& place) {
    told_errors().clear();
    // Not by the headers' own function: it names the version of the headers.
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(
        createInferRuntime_INTERNAL(&the_log(), getInferLibVersion())));
    if (runtime_ == nullptr) {
        throw_backend_error(library_title() + " cannot be started: " + told_errors().text());
    }
    const std::uint64_t diagnostics = diagnostics_of(*runtime_, data, size);
    engine_.reset(runtime_->deserializeCudaEngine(data, size));
    if (engine_ == nullptr) {
        throw_backend_error(place + ": " + library_title() + " " +
                            refusal(diagnostics, gpu_text(gpu), told_errors().text()));
    }
    contexts_.emplace(*engine_, std::move(kernels));
}

void Engine::check_interface(const Plan& plan, const Stage& stage,
                             const std::string& place) const {
    OrderedMap<Type> inputs;
    OrderedMap<Type> outputs;
    for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
        const char* name = engine_->getIOTensorName(i);
        if (engine_->getTensorLocation(name) != nvinfer1::TensorLocation::kDEVICE) {
            throw_backend_error(place + ": wants " + quote(name) +
                                " in host memory; export the bundle again");
        }
        const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        (is_input ? inputs : outputs).add(name, type_of(*engine_, name));
    }
    OrderedMap<Type> bound = stage.inputs;
    for (const auto& [tensor, value] : stage.weights) {
        bound.add(tensor, plan.values.at(value).type);
    }
    const auto compare = [&](const char* what, const OrderedMap<Type>& expected,
                             const OrderedMap<Type>& found) {
        const std::string fault = interface_fault(expected, found);
        if (fault.empty()) return;
        throw_backend_error(place + ": " + what + ": " + fault + "; export the bundle again");
    };
    compare("inputs", bound, inputs);
    compare("outputs", stage.outputs, outputs);
    // What a stage does in place is bound to one address like everything else. The Python runtime
    // also asks `getAliasedInputTensor` for what the engine itself wants in one place; here headers
    // that do not have it are to compile, and `keepstep verify` tells what differs.
}

std::unique_ptr<nvinfer1::IExecutionContext> Engine::context(const std::string& place) {
    told_errors().clear();
    auto context = contexts_->make();
    if (context == nullptr) {
        throw_backend_error(place + " cannot be made ready by " + library_title() + ": " +
                            told_errors().text());
    }
    return context;
}

std::size_t Engine::scratch_bytes(nvinfer1::IExecutionContext& context) const {
    return std::max(static_cast<std::size_t>(engine_->getDeviceMemorySizeV2()),
                    context.updateDeviceMemorySizeForShapes());
}

}  // namespace keepstep::internal
