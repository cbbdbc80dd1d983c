#include "keepstep/bundle.h"

#include <utility>

#include "bundle_folder.h"
#include "error.h"
#include "inputs.h"
#include "player_impl.h"
#include "quoting.h"

namespace keepstep {

using internal::guarded;

namespace {

constexpr int most_threads = 1024;  // more than any launch can use; each of them takes memory

}  // namespace

struct Bundle::Impl {
    std::shared_ptr<internal::BundleFolder> folder;
};

Bundle::Bundle(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

Result<Bundle> Bundle::open(std::string_view folder, BundleOptions options) noexcept {
    return guarded([&] {
        const std::string path(folder);
        if (path.find('\0') != path.npos) {
            internal::throw_bundle_error(0, internal::escape(path) + ": a NUL in the folder's name");
        }
        auto opened = std::make_shared<internal::BundleFolder>(path, options.verify_hashes);
        return Bundle(std::make_shared<Impl>(Impl{std::move(opened)}));
    });
}

const std::vector<std::string>& Bundle::plans() const noexcept {
    return impl_->folder->manifest().plans;
}

Result<ConstTensor> Bundle::tensor(std::string_view file, std::string_view name) const noexcept {
    return guarded([&] {
        const std::string path(file);
        const std::string wanted(name);
        const internal::TensorFile& tensors = impl_->folder->tensors(path);
        const auto type = tensors.type(wanted);
        if (!type) {
            internal::throw_bundle_error(
                10, internal::escape(path) + ": holds no tensor " + internal::quote(wanted));
        }
        if (!internal::dtype_named(type->dtype) || type->shape.size() > Shape::max_axes) {
            internal::throw_bundle_error(10, internal::escape(path) + ": tensor " +
                                                 internal::quote(wanted) + " is " +
                                                 internal::type_text(*type) +
                                                 ", which plans do not know");
        }
        const TensorType known = internal::public_type(wanted, *type);
        return ConstTensor{name, known.dtype, known.shape, tensors.data(wanted), known.bytes};
    });
}

Result<Player> Bundle::player(std::string_view plan, std::string_view backend,
                              const PlayerOptions& options) const noexcept {
    return guarded([&] {
        if (options.threads < 0 || options.threads > most_threads) {
            internal::throw_input_error("threads: expected 1 to " + std::to_string(most_threads) +
                                        ", or 0 for the backend's choice, found " +
                                        std::to_string(options.threads));
        }
        const internal::Plan& checked = impl_->folder->plan(std::string(plan));
        return Player(
            std::make_unique<Player::Impl>(impl_->folder, checked, std::string(backend), options));
    });
}

const std::vector<std::string>& backends() noexcept { return internal::backend_names(); }

}  // namespace keepstep
