#include "gpu_toy.h"

#include <cstring>

#include "constants.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

std::string replaced_everywhere(std::string text, const std::string& old, const std::string& by) {
    for (std::size_t at = 0; (at = text.find(old, at)) != text.npos; at += by.size()) {
        text.replace(at, old.size(), by);
    }
    return text;
}

}  // namespace

void write_gpu_bundle(const std::filesystem::path& folder, const std::string& backend) {
    write_bundle(folder);
    std::string plan = plan_text("valid/toy.json");
    plan = replaced_everywhere(plan, "onnxruntime", backend);
    for (const char* axes : {"1, ", "2, ", "4, "}) {
        plan = replaced_everywhere(plan, std::string("[") + axes + "4]",
                                   std::string("[") + axes + "64]");
    }
    plan = replaced_everywhere(plan, "[1, 8]", "[1, 128]");
    // From the last: an offset that is written is not read again.
    for (const auto& [narrow, wide] :
         {std::pair{"1536}", "2816}"}, {"1280}", "2560}"}, {"1024}", "2048}"}, {"768}", "1024}"},
          {"512,", "768,"}, {"256}", "512}"}}) {
        plan = replaced_everywhere(plan, std::string("\"offset\": ") + narrow,
                                   std::string("\"offset\": ") + wide);
    }
    plan = replaced(plan, "\"arena_bytes\": 1792", "\"arena_bytes\": 3072");
    write(folder / "plans/toy.json", plan);
    write(folder / "plans/toy.safetensors",
          safetensors({{"coef", {"F32", {3, 3}, float_bytes({1, 2, 3, 4, 5, 6, 7, 8, 9})}},
                       {"times", {"F32", {2, 64}, float_bytes(std::vector<float>(128, 3))}}}));
    const std::string kernel = float_bytes(std::vector<float>(256, 2));
    write(folder / "weights.safetensors", safetensors({{"unet.kernel", {"F32", {4, 64}, kernel}}}));
    for (const char* stage : {"text", "full", "shallow", "final", "decode"}) {
        write(folder / "stages" / (std::string(stage) + "-00.onnx"), stage);
    }
    seal(folder);
}

Tensors tensors_of(const internal::Plan& plan, std::size_t call,
                   const internal::CallAddresses& addresses,
                   const internal::ConstantAddresses& constants) {
    Tensors tensors(addresses.reads.begin(), addresses.reads.end());
    tensors.insert(addresses.writes.begin(), addresses.writes.end());
    const internal::Stage& stage = plan.stages.at(plan.calls[call].stage);
    const auto weights = internal::weight_addresses(stage, constants);
    tensors.insert(weights.begin(), weights.end());
    return tensors;
}

void play_stage(const internal::Plan& plan, const std::string& name, const Tensors& tensors) {
    const internal::Stage& stage = plan.stages.at(name);
    std::size_t sum = name.size();
    const auto add = [&](const std::string& tensor, const internal::Type& type) {
        const std::byte* bytes = tensors.at(tensor);
        for (std::int64_t i = 0; i < bytes_of(type); ++i) {
            sum = sum * 31 + std::to_integer<std::size_t>(bytes[i]);
        }
    };
    for (const auto& [tensor, type] : stage.inputs) add(tensor, type);
    for (const auto& [tensor, value] : stage.weights) add(tensor, plan.values.at(value).type);
    for (const auto& [tensor, type] : stage.outputs) {
        std::byte* bytes = tensors.at(tensor);
        for (std::int64_t i = 0; i < bytes_of(type); ++i) {
            bytes[i] = static_cast<std::byte>(sum >> i % 40);
        }
    }
}

Bytes image_of(internal::BundleFolder& bundle, const internal::Plan& plan, const Bytes& ids,
               const Bytes& noise) {
    std::vector<std::byte> arena(static_cast<std::size_t>(plan.arena_bytes));
    internal::ConstantAddresses constants;
    for (const auto& part : internal::constant_parts(plan)) {
        constants[part] = internal::host_bytes(bundle, plan, part).data;
    }
    const auto memory = [&](const char* value) {
        return arena.data() + *plan.values.at(value).offset;
    };
    std::memcpy(memory("token_ids"), ids.data(), ids.size());
    std::memcpy(memory("noise"), noise.data(), noise.size());
    const auto addresses = internal::call_addresses(plan, arena.data(), constants);
    for (std::size_t call = 0; call < plan.calls.size(); ++call) {
        play_stage(plan, plan.calls[call].stage,
                   tensors_of(plan, call, addresses[call], constants));
    }
    Bytes image(static_cast<std::size_t>(bytes_of(plan.values.at("image").type)));
    std::memcpy(image.data(), memory("image"), image.size());
    return image;
}

}  // namespace keepstep::tests
