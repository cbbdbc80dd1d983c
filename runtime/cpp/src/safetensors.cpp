#include "keepstep/safetensors.h"

#include <string>
#include <system_error>
#include <utility>

#include "error.h"
#include "files.h"
#include "inputs.h"
#include "tensors.h"
#include "quoting.h"

namespace keepstep {

// Its members are no part of what the library shows.
struct __attribute__((visibility("hidden"))) Safetensors::Impl {
    Impl(const std::string& path, const std::string& where);

    internal::TensorFile file;
    std::vector<std::string> names;
    std::vector<ConstTensor> tensors;  // views of both
};

Safetensors::Impl::Impl(const std::string& path, const std::string& where)
    : file(internal::File(path), where), names(file.names()) {
    for (const std::string& name : names) {
        const internal::Type type = file.type(name).value();
        if (!internal::dtype_named(type.dtype) || type.shape.size() > Shape::max_axes) {
            internal::throw_input_error(where + ": tensor " + internal::quote(name) + " is " +
                                        internal::type_text(type) + ", which plans do not know");
        }
        const TensorType known = internal::public_type(name, type);
        tensors.push_back({name, known.dtype, known.shape, file.data(name), known.bytes});
    }
}

namespace {

std::shared_ptr<const Safetensors::Impl> read(const std::string& path) {
    const std::string where = internal::escape(path);
    if (path.find('\0') != path.npos) {
        internal::throw_input_error(where + ": a NUL in the file's name");
    }
    try {
        if (internal::is_folder(path)) {
            internal::throw_input_error(where + ": is a folder: give the name of a file");
        }
        return std::make_shared<const Safetensors::Impl>(path, where);
    } catch (const std::system_error& error) {
        internal::throw_input_error(where + ": cannot be read: " + error.code().message());
    } catch (const internal::Error& error) {
        if (error.rule == 0) throw;
        // Rules are for the files of a bundle: this one is the caller's.
        const std::string& text = error.message;
        internal::throw_input_error(text.substr(0, text.rfind(" (rule ")));
    }
}

}  // namespace

Safetensors::Safetensors(std::shared_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}

Result<Safetensors> Safetensors::open(std::string_view path) noexcept {
    return internal::guarded([&] { return Safetensors(read(std::string(path))); });
}

const std::vector<ConstTensor>& Safetensors::tensors() const noexcept { return impl_->tensors; }

}  // namespace keepstep
