// Writes what other programs are tested with: the toy bundle, but with pictures for its image, into
// FOLDER/toy, and beside it inputs that it takes and inputs that it refuses.
#include <filesystem>
#include <limits>

#include "toy_bundle.h"

namespace {

using keepstep::tests::FileTensor;
using keepstep::tests::float_bytes;

/// Makes the image two pictures of 3 × 2 pixels: nobody minds, where no engine runs.
void draw_pictures(const std::filesystem::path& folder) {
    std::string text = keepstep::tests::plan_text("valid/toy.json");
    for (int i = 0; i < 2; ++i) {  // the value and the tensor of its stage
        text = keepstep::tests::replaced(text, R"("uint8", "shape": [1, 4])",
                                         R"("uint8", "shape": [2, 3, 2, 3])");
    }
    keepstep::tests::write(folder / "plans/toy.json", text);
    keepstep::tests::seal(folder);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    const std::filesystem::path folder(arguments[1]);
    keepstep::tests::write_bundle(folder / "toy");
    draw_pictures(folder / "toy");
    const auto write_inputs = [&](const char* name,
                                  const std::map<std::string, FileTensor>& tensors) {
        keepstep::tests::write(folder / name, keepstep::tests::safetensors(tensors));
    };
    const FileTensor ids = {"I64", {1, 4}, std::string(32, '\0')};
    const FileTensor noise = {"F32", {1, 4}, float_bytes({1, 2, 3, 4})};
    const FileTensor halves = {"F16", {1, 4}, std::string(8, '\0')};
    const FileTensor nan = {
        "F32", {1, 4}, float_bytes({1, 2, 3, std::numeric_limits<float>::quiet_NaN()})};
    write_inputs("in.safetensors", {{"token_ids", ids}, {"noise", noise}});
    write_inputs("no-ids.safetensors", {{"noise", noise}});
    write_inputs("halves.safetensors", {{"token_ids", ids}, {"noise", halves}});
    write_inputs("nan.safetensors", {{"token_ids", ids}, {"noise", nan}});
    write_inputs("unknown.safetensors", {{"token_ids", ids}, {"nois", noise}});
    return 0;
}
