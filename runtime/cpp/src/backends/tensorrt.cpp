#include "backends/tensorrt.h"

#include <algorithm>
#include <mutex>
#include <system_error>
#include <utility>

#include "error.h"
#include "memory.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

#ifdef KEEPSTEP_TENSORRT_RTX
constexpr const char* backend = "tensorrt-rtx";
#else
constexpr const char* backend = "tensorrt";
#endif

/// The GPU at hand. Throws a backend error that says what else there is.
Gpu gpu_at_hand() {
    try {
        return current_gpu();
    } catch (Error& error) {
        std::vector<std::string> others;
        for (const std::string& name : backend_names()) {
            if (name != backend) others.push_back(name);
        }
        error.message += "; backend " + quote(backend) +
                         " needs an NVIDIA GPU and its driver, and this build also has: " +
                         quote_names(others);
        throw;
    }
}

/// Kernels of one GPU beside their engine, by the name that the Python runtime looks for, too.
std::string kernels_file(const std::string& engine, const Gpu& gpu) {
    std::string name;
    for (const char c : gpu.name) {
        const bool is_plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                              (c >= 'a' && c <= 'z');
        if (is_plain) {
            name += c;
        } else if (name.empty() || name.back() != '-') {
            name += '-';
        }
    }
    return engine + "." + name + ".cache";
}

std::shared_ptr<Engine> loaded(const BundleFolder& bundle, const std::string& path, const Gpu& gpu,
                               const std::string& place) {
    const Pages pages = bundle.read(path);
    return std::make_shared<Engine>(pages.data(), pages.size(), gpu,
                                    kernels_file(bundle.place(path), gpu), place);
}

void set_addresses(nvinfer1::IExecutionContext& context, const Addresses& addresses,
                   const std::string& place) {
    for (const auto& [tensor, address] : addresses) {
        if (context.setTensorAddress(tensor.c_str(), address)) continue;
        throw_backend_error(place + ": " + quote(tensor) +
                            " cannot be bound; export the bundle again");
    }
}

/// The engine of a stage, or that which another player has loaded already.
Launcher launcher_of(BundleFolder& bundle, const Plan& plan, std::size_t index,
                     const std::string& path, const Gpu& gpu) {
    const auto& [name, stage] = plan.stages[index];
    const std::string place =
        "bundle " + escape(bundle.path()) + ": stage " + quote(name) + " (" + escape(path) + ")";
    const std::string key = std::string(backend) + " " + std::to_string(gpu.index) + ": engine " +
                            bundle.manifest().files.at(path).sha256;
    auto engine = bundle.shared().get<Engine>(
        key, [&] { return loaded(bundle, path, gpu, place); });
    engine->check_interface(plan, stage, place);
    return {place, std::move(engine), nullptr};
}

}  // namespace

std::unique_ptr<Session> TensorRTSession::open(BundleFolder& bundle, const Plan& plan,
                                               const PlayerOptions& options) {
    check_alignment(plan);
    const std::vector<std::string> paths = engine_paths(bundle, plan, backend);
    check_library();
    const std::lock_guard<std::recursive_mutex> lock(exclusive());
    const Gpu gpu = gpu_at_hand();
    std::vector<Launcher> launchers;
    for (std::size_t i = 0; i < paths.size(); ++i) {
        launchers.push_back(launcher_of(bundle, plan, i, paths[i], gpu));
    }
    return std::make_unique<TensorRTSession>(bundle, plan, gpu,
                                             static_cast<cudaStream_t>(options.cuda_stream),
                                             std::move(launchers));
}

TensorRTSession::TensorRTSession(BundleFolder& bundle, const Plan& plan, const Gpu& gpu,
                                 cudaStream_t stream, std::vector<Launcher> launchers)
    : CudaSession(bundle, plan, gpu, stream), launchers_(std::move(launchers)) {
    std::size_t scratch = alignment;
    for (auto& [place, engine, context] : launchers_) {
        context = engine->context(place);
        scratch = std::max(scratch, engine->scratch_bytes(*context));
    }
    scratch_.emplace(scratch);
    for (std::size_t i = 0; i < launchers_.size(); ++i) {
        const auto& [place, engine, context] = launchers_[i];
        context->setDeviceMemoryV2(scratch_->data(), static_cast<std::int64_t>(scratch));
        set_addresses(*context, weight_addresses(plan.stages[i].second, constants()), place);
    }
    for (const Call& call : plan.calls) launched_.push_back(plan.stages.index_of(call.stage));
}

void TensorRTSession::enqueue(std::size_t call, cudaStream_t stream) {
    const auto& [place, engine, context] = launchers_[launched_[call]];
    set_addresses(*context, addresses()[call].reads, place);
    set_addresses(*context, addresses()[call].writes, place);
    if (!context->enqueueV3(stream)) {
        throw_backend_error(place + ": calls[" + std::to_string(call) + "] failed in " +
                            library_title() + ": " + told_errors().text());
    }
}

void TensorRTSession::check_capturable([[maybe_unused]] cudaStream_t stream) {
#ifdef TRT_MAJOR_RTX
    for (const auto& [place, engine, context] : launchers_) {
        if (context->isStreamCapturable(stream)) continue;
        throw_backend_error(place + ": " + library_title() + " says that it is not capturable");
    }
#endif
}

void TensorRTSession::warmed_up() {
    for (const Launcher& launcher : launchers_) launcher.engine->keep_kernels();
}

}  // namespace keepstep::internal
