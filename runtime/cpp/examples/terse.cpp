// Arrays of a file to a picture: terse BUNDLE BACKEND IN.safetensors OUT.ppm
#include <keepstep/bundle.h>
#include <keepstep/safetensors.h>

#include <cstdio>

int main(int count, char** arguments) {
    const auto failed = [](const keepstep::Status& status) {
        std::fprintf(stderr, "%s\n", status.message().c_str());
        return 1;
    };
    if (count != 5) return 2;
    const auto bundle = keepstep::Bundle::open(arguments[1]);
    if (!bundle.ok() || bundle->plans().empty()) return failed(bundle.status());
    auto player = bundle->player(bundle->plans().front(), arguments[2]);
    if (!player.ok()) return failed(player.status());
    const auto inputs = keepstep::Safetensors::open(arguments[3]);
    if (!inputs.ok()) return failed(inputs.status());

    std::vector<std::uint8_t> pixels;
    keepstep::MutableTensor image;
    for (const auto& [name, dtype, shape, bytes] : player->outputs()) {
        if (name != "image") continue;  // uint8 (batch, height, width, 3)
        pixels.resize(bytes);
        image = {name, dtype, shape, pixels.data(), bytes};
    }
    if (const auto status = player->run(inputs->tensors(), {image}); !status.ok()) {
        return failed(status);
    }
    std::FILE* file = std::fopen(arguments[4], "wb");
    if (file == nullptr) return 1;
    const auto height = image.shape[0] * image.shape[1];  // one picture below the other
    std::fprintf(file, "P6 %d %d 255\n", int(image.shape[2]), int(height));
    const bool whole = std::fwrite(pixels.data(), 1, pixels.size(), file) == pixels.size();
    return std::fclose(file) == 0 && whole ? 0 : 1;
}
