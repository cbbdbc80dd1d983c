// How TensorRT-RTX makes contexts, played by the host: what it asks of them, and its cache.
#pragma once

#include <string>
#include <utility>

#include "fake_interface.h"
#include "fake_tensorrt.h"

namespace keepstep::tests {

class Memory : public trt::IHostMemory {
  public:
    explicit Memory(std::string bytes) : bytes_(std::move(bytes)), behind_(table(), this) {
        mImpl = behind_.get();
    }

  private:
    using Self = Behind<api::VHostMemory>*;
    static const Table<api::VHostMemory>& table() {
        static const auto made =
            Table<api::VHostMemory>()
                .with(&api::VHostMemory::data,
                      +[](Self self) -> void* { return held<Memory>(self).bytes_.data(); })
                .with(&api::VHostMemory::size,
                      +[](Self self) { return held<Memory>(self).bytes_.size(); });
        return made;
    }
    std::string bytes_;
    Behind<api::VHostMemory> behind_;
};

class Cache : public trt::IRuntimeCache {
  public:
    explicit Cache(const bool& has_run) : has_run_(has_run), behind_(table(), this) {
        mImpl = behind_.get();
    }

  private:
    using Self = Behind<api::VRuntimeCache>*;
    static const Table<api::VRuntimeCache>& table() {
        static const auto made =
            Table<api::VRuntimeCache>()
                .with(&api::VRuntimeCache::serialize,
                      +[](Self self) -> trt::IHostMemory* {
                          return new Memory(held<Cache>(self).has_run_ ? fake_tensorrt().compiled
                                                                       : "");
                      })
                .with(&api::VRuntimeCache::deserialize,
                      +[](Self, const void* bytes, std::size_t size) {
                          fake_tensorrt().caches_read.emplace_back(static_cast<const char*>(bytes),
                                                                   size);
                          return true;
                      });
        return made;
    }
    const bool& has_run_;  // the engine's, whose contexts fill it
    Behind<api::VRuntimeCache> behind_;
};

class Config : public trt::IRuntimeConfig {
  public:
    explicit Config(const bool& has_run) : has_run_(has_run), behind_(table(), this) {
        mImpl = behind_.get();
    }

    bool is_user_managed = false;
    bool has_no_graphs = false;
    const Cache* cache = nullptr;

  private:
    using Self = Behind<api::VRuntimeConfig>*;
    static const Table<api::VRuntimeConfig>& table() {
        static const auto made =
            Table<api::VRuntimeConfig>()
                .with(&api::VRuntimeConfig::setExecutionContextAllocationStrategy,
                      +[](Self self, trt::ExecutionContextAllocationStrategy strategy) {
                          held<Config>(self).is_user_managed =
                              strategy == trt::ExecutionContextAllocationStrategy::kUSER_MANAGED;
                      })
                .with(&api::VRuntimeConfig::setCudaGraphStrategy,
                      +[](Self self, trt::CudaGraphStrategy strategy) {
                          held<Config>(self).has_no_graphs =
                              strategy == trt::CudaGraphStrategy::kDISABLED;
                          return true;
                      })
                .with(&api::VRuntimeConfig::createRuntimeCache,
                      +[](Self self) -> trt::IRuntimeCache* {
                          return new Cache(held<Config>(self).has_run_);
                      })
                .with(&api::VRuntimeConfig::setRuntimeCache,
                      +[](Self self, const trt::IRuntimeCache& cache) {
                          held<Config>(self).cache = static_cast<const Cache*>(&cache);
                          return true;
                      });
        return made;
    }
    const bool& has_run_;
    Behind<api::VRuntimeConfig> behind_;
};

}  // namespace keepstep::tests
