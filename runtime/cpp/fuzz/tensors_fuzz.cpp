// Bytes as a safetensors file: mapped with its whole header checked, or refused with rule 10.
//
// A mapped file ends inside a page of memory, and no sanitizer sees a read behind that end. So the
// header is read from the heap as well, and every byte of a tensor is compared with a copy there,
// at the place that nlohmann's reader finds: what lies outside of the file lies outside of both.
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "../tests/toy_bundle.h"
#include "demands.h"
#include "error.h"
#include "rules_values.h"
#include "tensors.h"

namespace keepstep::fuzz {
namespace {

using internal::TensorFile;
using internal::Type;

constexpr std::size_t length_bytes = 8;

/// What a plan with the constant `name` says of the file, as when its bundle is opened.
void demand_rule_10(const TensorFile& file, const std::string& name) {
    internal::Value value;
    value.kind = "constant";
    value.type = {"float32", {1}};
    value.file = "x.safetensors";
    value.tensor = name;
    internal::Plan plan;
    plan.values.add("constant", value);
    const auto constants = [&](const std::string&, const std::string& tensor) {
        return file.type(tensor);
    };
    const Status status = internal::guarded_status([&] {
        const internal::Finding finding = internal::rule_10_constants(plan, constants);
        if (finding) internal::throw_bundle_error(10, *finding);
    });
    if (!status.ok()) demand_refusal(status, 10, 10);
}

/// Demands that every tensor is where its header says, and all of it in the file.
void demand_tensors(const TensorFile& file, const std::vector<std::uint8_t>& copy) {
    std::uint64_t header_bytes = 0;
    demand(copy.size() >= length_bytes, "a file is longer than the length of its header");
    std::memcpy(&header_bytes, copy.data(), length_bytes);
    const auto start = copy.begin() + static_cast<std::ptrdiff_t>(length_bytes + header_bytes);
    const auto header = nlohmann::json::parse(copy.begin() + length_bytes, start);
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") continue;
        const std::optional<Type> type = file.type(name);
        demand(type.has_value(), "a tensor of the header is found:", name);
        demand(type->shape == entry.at("shape").get<std::vector<std::int64_t>>(),
               "a tensor has its shape:", name);
        const auto begin = entry.at("data_offsets").at(0).get<std::size_t>();
        const auto end = entry.at("data_offsets").at(1).get<std::size_t>();
        demand(begin <= end, "offsets go upwards:", name);
        if (internal::dtype_named(type->dtype)) {
            demand(internal::bytes_of(*type) == static_cast<std::int64_t>(end - begin),
                   "a tensor has the bytes of its type:", name);
        }
        const std::byte* bytes = file.data(name);
        demand(file.data(name) == bytes, "a tensor stays where it is:", name);
        for (std::size_t i = begin; i < end; ++i) {
            demand(std::to_integer<std::uint8_t>(bytes[i - begin]) ==
                       start[static_cast<std::ptrdiff_t>(i)],
                   "a tensor has the bytes of the file:", name);
        }
        demand_rule_10(file, name);
    }
}

}  // namespace
}  // namespace keepstep::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace keepstep;
    static const tests::TemporaryFolder folder;
    const std::string where = "x.safetensors";
    const std::string path = (folder.path() / where).string();
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    tests::write(path, std::string(bytes));

    const Status status =
        internal::guarded_status([&] { internal::tensor_entries(bytes, where); });
    std::optional<internal::TensorFile> file;
    const Status mapped = internal::guarded_status([&] { file.emplace(internal::File(path), where); });
    fuzz::demand(status.message() == mapped.message(), "the same from a file:", mapped.message());
    if (status.ok()) {
        fuzz::demand_tensors(*file, {data, data + size});
    } else {
        fuzz::demand_refusal(status, 10, 10);
    }
    return 0;
}
