// Bytes as the bundle.json of a folder with the toy bundle's files: opened, or refused for a rule.
#include "../tests/toy_bundle.h"
#include "demands.h"
#include "keepstep/bundle.h"

namespace keepstep::fuzz {
namespace {

/// A folder with a plan, two files of tensors and engines of one byte, made once.
struct ToyFolder {
    ToyFolder() { tests::write_bundle(folder.path()); }

    tests::TemporaryFolder folder;
};

}  // namespace
}  // namespace keepstep::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace keepstep;
    static const fuzz::ToyFolder toy;
    const auto& folder = toy.folder.path();
    tests::write(folder / "bundle.json", {reinterpret_cast<const char*>(data), size});

    BundleOptions options;
    options.verify_hashes = false;  // no mutation ever meets one
    const auto bundle = Bundle::open(folder.string(), options);
    if (!bundle.ok()) {
        fuzz::demand_refusal(bundle.status(), 0, 7);
        return 0;
    }
    for (const std::string& plan : bundle->plans()) {
        const auto player = bundle->player(plan, "null");
        if (!player.ok()) fuzz::demand_refusal(player.status(), 1, 19);
    }
    return 0;
}
