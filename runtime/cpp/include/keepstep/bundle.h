// A bundle: a folder of plans, their constants and the engines that they share.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "keepstep/export.h"
#include "keepstep/player.h"
#include "keepstep/status.h"
#include "keepstep/tensor.h"

namespace keepstep {

/// How a bundle is opened.
struct BundleOptions {
    /// Without it sizes alone are compared, for files that are known to be whole.
    bool verify_hashes = true;
};

/// A bundle whose files have been found whole. Copies share it; any thread may use it.
///
///     auto bundle = keepstep::Bundle::open("engines/emoji");
///     if (!bundle.ok()) return report(bundle.status());
///     auto player = bundle->player("dato-coco", "null");
class KEEPSTEP_API Bundle {
  public:
    struct Impl;

    explicit Bundle(std::shared_ptr<Impl> impl) noexcept;

    /// Reads bundle.json in `folder` (UTF-8) and checks every file that it lists (rules 1 to 5).
    /// Fails with `bundle_error`.
    static Result<Bundle> open(std::string_view folder, BundleOptions options = {}) noexcept;

    /// The names of the plans.
    const std::vector<std::string>& plans() const noexcept;

    /// A tensor of a safetensors file of the bundle, mapped and not copied; valid as long as any
    /// copy of this bundle or a player of it. Its `name` is the view that was given. Fails with
    /// `bundle_error`.
    Result<ConstTensor> tensor(std::string_view file, std::string_view name) const noexcept;

    /// Reads a plan, checks every rule and loads it for playing on one of `backends()`.
    /// Fails with `input_error` for an unknown plan, `bundle_error` or `backend_error`.
    Result<Player> player(std::string_view plan, std::string_view backend = "onnxruntime",
                          const PlayerOptions& options = {}) const noexcept;

  private:
    std::shared_ptr<Impl> impl_;
};

/// The names of the backends that this build has.
KEEPSTEP_API const std::vector<std::string>& backends() noexcept;

}  // namespace keepstep
