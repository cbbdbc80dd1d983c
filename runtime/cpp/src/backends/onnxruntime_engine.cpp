#include "backends/onnxruntime_engine.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "constants.h"
#include "error.h"
#include "wording.h"

namespace keepstep::internal {
namespace {

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

/// Its number where plans do not know it.
std::string dtype_of(ONNXTensorElementDataType type) {
    const auto found = std::find_if(elements.begin(), elements.end(),
                                    [&](const Element& known) { return type == known.type; });
    return found == elements.end() ? "ONNX type " + std::to_string(type) : found->dtype;
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
                                    plan.values.at(value).type, "weight " + shown(tensor)));
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
    if (threads != 0) check(ort().SetIntraOpNumThreads(made, threads), "options");
    add_weights(made, bundle, plan, stage);
    return options;
}

using NameOf = decltype(OrtApi::SessionGetInputName);
using TypeOf = decltype(OrtApi::SessionGetInputTypeInfo);

std::string name_of(const OrtSession* session, NameOf get, std::size_t index) {
    OrtAllocator* allocator = nullptr;
    check(ort().GetAllocatorWithDefaultOptions(&allocator), "memory");
    char* text = nullptr;
    check(get(session, index, allocator, &text), "a name");
    const auto free = [&](char* taken) { ort_fault(ort().AllocatorFree(allocator, taken)); };
    const std::unique_ptr<char, decltype(free)> owned(text, free);
    return text;
}

/// The type of a tensor; a dimension that is not fixed is -1.
Type type_of(const OrtSession* session, TypeOf get, std::size_t index) {
    OrtTypeInfo* made = nullptr;
    check(get(session, index, &made), "a type");
    const OwnedTypeInfo info(made);
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    check(ort().CastTypeInfoToTensorInfo(made, &tensor), "a type");
    if (tensor == nullptr) return {"no tensor", {}};
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::size_t axes = 0;
    check(ort().GetTensorElementType(tensor, &element), "a type");
    check(ort().GetDimensionsCount(tensor, &axes), "a shape");
    Type type{dtype_of(element), std::vector<std::int64_t>(axes)};
    check(ort().GetDimensions(tensor, type.shape.data(), axes), "a shape");
    return type;
}

/// Refuses an engine whose inputs or outputs are not those of the stage.
void check_tensors(const char* what, const OrtSession* session, std::size_t count, NameOf name,
                   TypeOf type, const Named<Type>& expected) {
    std::vector<std::string> found;
    for (std::size_t i = 0; i < count; ++i) found.push_back(name_of(session, name, i));
    std::vector<std::string> names = expected.names();
    std::vector<std::string> sorted = found;
    std::sort(names.begin(), names.end());
    std::sort(sorted.begin(), sorted.end());
    if (sorted != names) {
        throw_backend_error(std::string("the plan's ") + what + " are " + listed(names) +
                            ", the engine's " + listed(sorted));
    }
    for (std::size_t i = 0; i < count; ++i) {
        const Type has = type_of(session, type, i);
        if (has == expected.at(found[i])) continue;
        throw_backend_error(std::string(what) + "." + bare(found[i]) + ": the plan has " +
                            type_text(expected.at(found[i])) + ", the engine " + type_text(has));
    }
}

void check_interface(const OrtSession* session, const Stage& stage) {
    std::size_t inputs = 0;
    std::size_t outputs = 0;
    check(ort().SessionGetInputCount(session, &inputs), "inputs");
    check(ort().SessionGetOutputCount(session, &outputs), "outputs");
    check_tensors("inputs", session, inputs, ort().SessionGetInputName,
                  ort().SessionGetInputTypeInfo, stage.inputs);
    check_tensors("outputs", session, outputs, ort().SessionGetOutputName,
                  ort().SessionGetOutputTypeInfo, stage.outputs);
}

std::shared_ptr<OnnxRuntimeEngine> loaded(BundleFolder& bundle, const Plan& plan,
                                          const Stage& stage, const std::string& path,
                                          int threads) {
    auto env = library();
    const OwnedOptions options = options_for(bundle, plan, stage, threads);
    OrtSession* session = nullptr;
    check(ort().CreateSession(env.get(), bundle.file(path).c_str(), options.get(), &session),
          ort_title());
    auto engine = std::make_shared<OnnxRuntimeEngine>();
    engine->library = std::move(env);
    engine->session.reset(session);
    return engine;
}

/// What makes engines the same: file, threads, and where their weights come from.
std::string key_of(const Plan& plan, const Stage& stage, const std::string& path, int threads) {
    std::string key = "onnxruntime " + std::to_string(threads) + " " + path;
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
    try {
        auto engine = bundle.shared().get<OnnxRuntimeEngine>(
            key_of(plan, stage, path, threads),
            [&] { return loaded(bundle, plan, stage, path, threads); });
        check_interface(engine->session.get(), stage);  // plans may mean it in different ways
        return engine;
    } catch (Error& error) {
        if (error.code != StatusCode::backend_error) throw;
        throw_backend_error("bundle " + bare(bundle.path()) + ": stage " + shown(name) + " (" +
                            bare(path) + ") cannot be loaded: " + error.message +
                            "; export the bundle again");
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
        const OwnedValue value = tensor_over(address, stage.inputs.at(tensor), shown(tensor));
        check(ort().BindInput(made, tensor.c_str(), value.get()), shown(tensor));
    }
    for (const auto& [tensor, address] : at.writes) {
        const OwnedValue value = tensor_over(address, stage.outputs.at(tensor), shown(tensor));
        check(ort().BindOutput(made, tensor.c_str(), value.get()), shown(tensor));
    }
    return binding;
}

}  // namespace keepstep::internal
