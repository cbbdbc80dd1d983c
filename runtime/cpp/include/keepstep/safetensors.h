// Tensors that lie in a safetensors file: what a program is given that has no tokenizer.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "keepstep/export.h"
#include "keepstep/status.h"
#include "keepstep/tensor.h"

namespace keepstep {

/// The tensors of a safetensors file, mapped and not copied. Copies share it; any thread may use
/// it.
///
///     const auto inputs = keepstep::Safetensors::open("in.safetensors");
///     if (!inputs.ok()) return report(inputs.status());
///     const auto status = player.run(inputs->tensors());
class KEEPSTEP_API Safetensors {
  public:
    struct Impl;

    explicit Safetensors(std::shared_ptr<const Impl> impl) noexcept;

    /// Maps the file at `path` (UTF-8) and checks its whole header. Fails with `input_error` when
    /// it cannot be read, when it is no safetensors file, and when it holds a tensor that no plan
    /// can take: of another dtype, or of more than eight axes.
    static Result<Safetensors> open(std::string_view path) noexcept;

    /// All of them, sorted by name; valid as long as any copy of this.
    const std::vector<ConstTensor>& tensors() const noexcept;

  private:
    std::shared_ptr<const Impl> impl_;
};

}  // namespace keepstep
