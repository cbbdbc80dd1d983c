#include "backends/onnxruntime_engine.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "backends/onnx_structure.h"
#include "constants.h"
#include "error.h"
#include "memory.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::size_t most_bytes = (std::size_t{1} << 31) - 1;  // of one protobuf message

struct Element {
    const char* dtype;
    ONNXTensorElementDataType type;
};

constexpr std::array<Element, 7> elements = {{
    {"float32", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    {"float16", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    {"bfloat16", ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    {"int64", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
    {"int32", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    {"uint8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    {"bool", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
}};

ONNXTensorElementDataType element_of(const std::string& dtype) {
    const auto found = std::find_if(elements.begin(), elements.end(),
                                    [&](const Element& known) { return dtype == known.dtype; });
    return found->type;  // a checked plan has no others
}

void check(OrtStatus* status, const std::string& what) {
    if (const auto fault = ort_fault(status)) throw_backend_error(what + ": " + *fault);
}

/// Threads, logs and the like: one for all engines of the program, for as long as there are any.
std::shared_ptr<OrtEnv> library() {
    OrtEnv* env = nullptr;
    check(ort().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "keepstep", &env), ort_title());
    return {env, [](OrtEnv* last) { ort().ReleaseEnv(last); }};  // the library counts as well
}

OwnedMemoryInfo host_memory() {
    OrtMemoryInfo* info = nullptr;
    check(ort().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info), ort_title());
    return OwnedMemoryInfo(info);
}

/// Memory of somebody else's as a tensor. `data` is not written to where the engine only reads it.
OwnedValue tensor_over(std::byte* data, const Type& type, const std::string& what) {
    static const OwnedMemoryInfo host = host_memory();
    OrtValue* value = nullptr;
    check(ort().CreateTensorWithDataAsOrtValue(
              host.get(), data, static_cast<std::size_t>(bytes_of(type)), type.shape.data(),
              type.shape.size(), element_of(type.dtype), &value),
          what);
    return OwnedValue(value);
}

/// Has the engine read its weights where they are mapped.
void add_weights(OrtSessionOptions* options, BundleFolder& bundle, const Plan& plan,
                 const Stage& stage) {
    std::vector<const char*> names;
    std::vector<OwnedValue> owned;
    std::vector<OrtValue*> values;
    for (const auto& [tensor, value] : stage.weights) {
        const HostBytes mapped = host_bytes(bundle, plan, {value, std::nullopt, 0});
        names.push_back(tensor.c_str());
        owned.push_back(tensor_over(const_cast<std::byte*>(mapped.data),
                                    plan.values.at(value).type, "weight " + quote(tensor)));
        values.push_back(owned.back().get());
    }
    if (names.empty()) return;
    check(ort().AddExternalInitializers(options, names.data(), values.data(), names.size()),
          "weights");
}

OwnedOptions options_for(BundleFolder& bundle, const Plan& plan, const Stage& stage, int threads) {
    OrtSessionOptions* made = nullptr;
    check(ort().CreateSessionOptions(&made), "options");
    OwnedOptions options(made);
    check(ort().SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_ERROR), "options");
    // Each engine has threads of its own: those of the last one are not to spin beside the next.
    check(ort().AddSessionConfigEntry(made, "session.force_spinning_stop", "1"), "options");
    // What has been checked is an ONNX file: its bytes are not to be taken for another format, and
    // types that it declares are not to be taken for true.
    check(ort().AddSessionConfigEntry(made, "session.load_model_format", "ONNX"), "options");
    check(ort().AddSessionConfigEntry(made, "session.strict_shape_type_inference", "1"), "options");
    if (threads != 0) check(ort().SetIntraOpNumThreads(made, threads), "options");
    add_weights(made, bundle, plan, stage);
    return options;
}

/// The bytes of an engine's file, the code of its stage and no more. ONNX Runtime is given the very
/// bytes that have been checked.
std::string checked_file(BundleFolder& bundle, const Plan& plan, const Stage& stage,
                         const std::string& path, const std::string& place) {
    const Pages pages = bundle.read(path);
    // A copy: what is mapped may be changed by others between the check and its use.
    std::string bytes(reinterpret_cast<const char*>(pages.data()), pages.size());
    const Finding fault = bytes.size() > most_bytes
                              ? Finding("more than the 2 GiB that an ONNX file holds")
                              : rule_20_engine(bytes, stage, weight_types(plan, stage));
    if (fault) throw_bundle_error(20, place + ": " + *fault + "; export the bundle again");
    return bytes;
}

std::shared_ptr<OnnxRuntimeEngine> loaded(BundleFolder& bundle, const Plan& plan,
                                          const Stage& stage, const std::string& path,
                                          const std::string& place, int threads) {
    const std::string bytes = checked_file(bundle, plan, stage, path, place);
    auto env = library();
    const OwnedOptions options = options_for(bundle, plan, stage, threads);
    OrtSession* session = nullptr;
    check(ort().CreateSessionFromArray(env.get(), bytes.data(), bytes.size(), options.get(),
                                       &session),
          ort_title());
    auto engine = std::make_shared<OnnxRuntimeEngine>();
    engine->library = std::move(env);
    engine->session.reset(session);
    return engine;
}

/// What makes engines the same: file, threads, what they take and give, and where their weights
/// come from.
std::string key_of(const Plan& plan, const Stage& stage, const std::string& path, int threads) {
    std::string key = "onnxruntime " + std::to_string(threads) + " " + path;
    for (const auto* tensors : {&stage.inputs, &stage.outputs}) {
        for (const auto& [tensor, type] : *tensors) key += "\n" + tensor + " " + type_text(type);
        key += "\n";
    }
    for (const auto& [tensor, name] : stage.weights) {
        const Value& value = plan.values.at(name);
        key += "\n" + tensor + " " + *value.file + " " + *value.tensor;
    }
    return key;
}

}  // namespace

std::shared_ptr<OnnxRuntimeEngine> load_engine(BundleFolder& bundle, const Plan& plan,
                                               const std::string& name, const std::string& path,
                                               int threads) {
    const Stage& stage = plan.stages.at(name);
    const std::string place = "bundle " + escape(bundle.path()) + ": stage " + quote(name) + " (" +
                              escape(path) + ")";
    try {
        return bundle.shared().get<OnnxRuntimeEngine>(
            key_of(plan, stage, path, threads),
            [&] { return loaded(bundle, plan, stage, path, place, threads); });
    } catch (Error& error) {
        if (error.code != StatusCode::backend_error) throw;
        throw_backend_error(place + " cannot be loaded: " + error.message + "; " +
                            memory_fault(error.message).value_or("export the bundle again"));
    }
}

OwnedRunOptions run_options() {
    OrtRunOptions* made = nullptr;
    check(ort().CreateRunOptions(&made), "options");
    return OwnedRunOptions(made);
}

OwnedBinding bound(OnnxRuntimeEngine& engine, const Stage& stage, const CallAddresses& at) {
    OrtIoBinding* made = nullptr;
    check(ort().CreateIoBinding(engine.session.get(), &made), "a binding");
    OwnedBinding binding(made);
    for (const auto& [tensor, address] : at.reads) {
        const OwnedValue value = tensor_over(address, stage.inputs.at(tensor), quote(tensor));
        check(ort().BindInput(made, tensor.c_str(), value.get()), quote(tensor));
    }
    for (const auto& [tensor, address] : at.writes) {
        const OwnedValue value = tensor_over(address, stage.outputs.at(tensor), quote(tensor));
        check(ort().BindOutput(made, tensor.c_str(), value.get()), quote(tensor));
    }
    return binding;
}

}  // namespace keepstep::internal
