// Engines of ONNX Runtime: loaded, compared with the plan, bound to addresses.
//
// An engine is an ONNX file without weights: they are handed over when it is loaded, where they
// are mapped. The file is read once, and ONNX Runtime is given the very bytes that were checked.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "addresses.h"
#include "backends/onnxruntime_api.h"
#include "bundle_folder.h"
#include "plan.h"

namespace keepstep::internal {

/// A loaded engine. Launching is thread-safe, so players share it.
struct OnnxRuntimeEngine {
    std::shared_ptr<OrtEnv> library;  // goes after the session
    OwnedSession session;
};

/// The engine of the stage `name`, or that which another player of the bundle has loaded already.
/// `threads` is 0 for the library's choice. Throws a bundle error (rule 20) for an engine that is
/// not the stage's, and a backend error for one that the library cannot load.
std::shared_ptr<OnnxRuntimeEngine> load_engine(BundleFolder& bundle, const Plan& plan,
                                               const std::string& name, const std::string& path,
                                               int threads);

/// How engines are launched.
OwnedRunOptions run_options();

/// The tensors of one call, bound to their memory. Throws a backend error.
OwnedBinding bound(OnnxRuntimeEngine& engine, const Stage& stage, const CallAddresses& at);

}  // namespace keepstep::internal
