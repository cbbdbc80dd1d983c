#include "fake_tensorrt.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "fake_cuda.h"
#include "fake_interface.h"
#include "gpu_toy.h"

#ifdef TRT_MAJOR_RTX
#include "fake_config.h"
#endif

namespace keepstep::tests {

FakeTensorRT& fake_tensorrt() {
    static FakeTensorRT fake;
    return fake;
}

namespace {

void misuse(const char* what) { fake_tensorrt().misuse.emplace_back(what); }

// Each answers what the backend asks, and knows what must not be gone yet.

struct NamedTensor {
    std::string name;
    internal::Type type;
    bool is_input = true;
};

class CudaEngine : public trt::ICudaEngine {
  public:
    CudaEngine(std::string stage, std::size_t& engines)
        : stage(std::move(stage)), engines_(engines), behind_(table(), this) {
        mImpl = behind_.get();
        ++engines_;
        const internal::Plan& plan = *fake_tensorrt().plan;
        const internal::Stage& known = plan.stages.at(this->stage);
        for (const auto& [name, type] : known.inputs) tensors.push_back({name, type, true});
        for (const auto& [name, value] : known.weights) {
            tensors.push_back({name, plan.values.at(value).type, true});
        }
        for (const auto& [name, type] : known.outputs) tensors.push_back({name, type, false});
    }
    ~CudaEngine() override {
        --engines_;
        if (contexts != 0) misuse("an engine is gone before its contexts");
    }

    std::string stage;
    std::vector<NamedTensor> tensors;
    std::size_t contexts = 0;
    bool has_run = false;
    static constexpr std::int64_t scratch = 1000;  // bytes

  private:
    using Self = Behind<api::VCudaEngine>*;
    static const NamedTensor& tensor(Self self, const char* name) {
        for (const NamedTensor& known : held<CudaEngine>(self).tensors) {
            if (known.name == name) return known;
        }
        std::abort();
    }
    static trt::IExecutionContext* context_of(Self self, bool is_user_managed);
    static const Table<api::VCudaEngine>& table();

    std::size_t& engines_;
    Behind<api::VCudaEngine> behind_;
};

class Context : public trt::IExecutionContext {
  public:
    explicit Context(CudaEngine& engine) : engine_(engine), behind_(table(), this) {
        mImpl = behind_.get();
        ++engine_.contexts;
        ++fake_tensorrt().contexts_made;
    }
    ~Context() override { --engine_.contexts; }

  private:
    using Self = Behind<api::VExecutionContext>*;
    static bool set_address(Self self, const char* name, void* address) {
        if (reinterpret_cast<std::uintptr_t>(address) % 256 != 0) misuse("an unaligned tensor");
        if (fake_cuda().is_idle) return true;
        held<Context>(self).tensors_[name] = static_cast<std::byte*>(address);
        return true;
    }
    static bool enqueue(Self self, cudaStream_t stream) {
        auto& context = held<Context>(self);
        if (fake_tensorrt().fails) return false;
        if (fake_cuda().is_idle) return true;
        if (context.scratch_bytes_ < CudaEngine::scratch) misuse("too little scratch memory");
        if (context.tensors_.size() != context.engine_.tensors.size()) misuse("unbound tensors");
        context.engine_.has_run = true;
        const internal::Plan* plan = fake_tensorrt().plan;
        return fake_launch(stream, [plan, stage = context.engine_.stage,
                                    tensors = context.tensors_, scratch = context.scratch_] {
                   std::memset(scratch, 0xDD, CudaEngine::scratch);
                   play_stage(*plan, stage, tensors);
               }) == cudaSuccess;
    }
    static const Table<api::VExecutionContext>& table() {
        static const auto made =
            Table<api::VExecutionContext>()
                .with(&api::VExecutionContext::setTensorAddress, &set_address)
                .with(&api::VExecutionContext::enqueueV3, &enqueue)
                .with(&api::VExecutionContext::updateDeviceMemorySizeForShapes,
                      +[](Self) -> std::size_t { return CudaEngine::scratch; })
                .with(&api::VExecutionContext::setDeviceMemoryV2,
                      +[](Self self, void* memory, std::int64_t size) {
                          held<Context>(self).scratch_ = memory;
                          held<Context>(self).scratch_bytes_ = size;
                      })
#ifdef TRT_MAJOR_RTX
                .with(&api::VExecutionContext::isStreamCapturable,
                      +[](Self, cudaStream_t) { return fake_tensorrt().is_capturable; })
#endif
            ;
        return made;
    }

    CudaEngine& engine_;
    Tensors tensors_;
    void* scratch_ = nullptr;
    std::int64_t scratch_bytes_ = 0;
    Behind<api::VExecutionContext> behind_;
};

trt::IExecutionContext* CudaEngine::context_of(Self self, bool is_user_managed) {
    if (!is_user_managed) misuse("a context that allocates");
    return fake_tensorrt().refuses_contexts ? nullptr : new Context(held<CudaEngine>(self));
}

const Table<api::VCudaEngine>& CudaEngine::table() {
    static const auto made =
        Table<api::VCudaEngine>()
            .with(&api::VCudaEngine::getNbIOTensors,
                  +[](Self self) {
                      return static_cast<std::int32_t>(held<CudaEngine>(self).tensors.size());
                  })
            .with(&api::VCudaEngine::getIOTensorName,
                  +[](Self self, std::int32_t i) {
                      const auto& tensors = held<CudaEngine>(self).tensors;
                      return tensors[static_cast<std::size_t>(i)].name.c_str();
                  })
            .with(&api::VCudaEngine::getTensorShape,
                  +[](Self self, const char* name) {
                      const auto& axes = tensor(self, name).type.shape;
                      trt::Dims dims{static_cast<std::int32_t>(axes.size()), {}};
                      std::copy(axes.begin(), axes.end(), dims.d);
                      return dims;
                  })
            .with(&api::VCudaEngine::getTensorDataType,
                  +[](Self self, const char* name) {
                      const std::string& dtype = tensor(self, name).type.dtype;
                      return dtype == "float32" ? trt::DataType::kFLOAT
                             : dtype == "int64" ? trt::DataType::kINT64
                                                : trt::DataType::kUINT8;
                  })
            .with(&api::VCudaEngine::getTensorIOMode,
                  +[](Self self, const char* name) {
                      return tensor(self, name).is_input ? trt::TensorIOMode::kINPUT
                                                         : trt::TensorIOMode::kOUTPUT;
                  })
            .with(&api::VCudaEngine::getTensorLocation,
                  +[](Self, const char* name) {
                      return name == fake_tensorrt().host_tensor ? trt::TensorLocation::kHOST
                                                                 : trt::TensorLocation::kDEVICE;
                  })
            .with(&api::VCudaEngine::getDeviceMemorySizeV2, +[](Self) { return scratch; })
#ifdef TRT_MAJOR_RTX
            .with(&api::VCudaEngine::createRuntimeConfig,
                  +[](Self self) -> trt::IRuntimeConfig* {
                      return new Config(held<CudaEngine>(self).has_run);
                  })
            .with(&api::VCudaEngine::createExecutionContextWithRuntimeConfig,
                  +[](Self self, trt::IRuntimeConfig* given) {
                      const auto& config = static_cast<const Config&>(*given);
                      if (!config.has_no_graphs) misuse("a context that captures");
                      if (config.cache == nullptr) misuse("a context without a cache");
                      return context_of(self, config.is_user_managed);
                  })
#else
            .with(&api::VCudaEngine::createExecutionContext,
                  +[](Self self, trt::ExecutionContextAllocationStrategy strategy) {
                      return context_of(
                          self, strategy == trt::ExecutionContextAllocationStrategy::kUSER_MANAGED);
                  })
#endif
        ;
    return made;
}

class Runtime : public trt::IRuntime {
  public:
    Runtime() : behind_(table(), this) { mImpl = behind_.get(); }
    ~Runtime() override {
        if (engines_ != 0) misuse("a runtime is gone before its engine");
    }

  private:
    using Self = Behind<api::VRuntime>*;
    using Deserialise = trt::ICudaEngine* (api::VRuntime::*)(const void*, std::size_t) noexcept;
    static trt::ICudaEngine* deserialise(Self self, const void* bytes, std::size_t size) {
        ++fake_tensorrt().deserialised;
        const std::string stage(static_cast<const char*>(bytes), size);
        if (!fake_tensorrt().plan->stages.contains(stage)) return nullptr;
        return new CudaEngine(stage, held<Runtime>(self).engines_);
    }
    static const Table<api::VRuntime>& table() {
        static const auto made =
            Table<api::VRuntime>()
                .with(static_cast<Deserialise>(&api::VRuntime::deserializeCudaEngine),
                      &deserialise)
#ifdef TRT_MAJOR_RTX
                .with(&api::VRuntime::getEngineValidity,
                      +[](Self, const void*, std::int64_t, std::uint64_t* diagnostics) {
                          *diagnostics = 1U << 1;
                          return trt::EngineValidity::kINVALID;
                      })
#endif
            ;
        return made;
    }
    std::size_t engines_ = 0;
    Behind<api::VRuntime> behind_;
};

}  // namespace
}  // namespace keepstep::tests

extern "C" {

std::int32_t getInferLibVersion() noexcept {
#if defined(TRT_MAJOR_RTX) == defined(KEEPSTEP_TENSORRT_RTX)
    return NV_TENSORRT_VERSION;
#else
    return 10500;
#endif
}

void* createInferRuntime_INTERNAL(void*, std::int32_t) noexcept {
    return static_cast<nvinfer1::IRuntime*>(new keepstep::tests::Runtime);
}

}  // extern "C"
