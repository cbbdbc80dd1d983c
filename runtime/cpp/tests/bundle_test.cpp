#include <doctest/doctest.h>

#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

namespace fs = std::filesystem;

/// A toy bundle that a test may damage.
struct Toy {
    Toy() : folder(temporary.path() / "toy") { write_bundle(folder); }

    /// Alters bundle.json.
    void manifest(const std::string& old, const std::string& by) const {
        write(folder / "bundle.json", replaced(read(folder / "bundle.json"), old, by));
    }
    /// Alters the plan, and makes bundle.json fit again.
    void replan(const std::string& old, const std::string& by) const {
        write(folder / "plans/toy.json", replaced(plan_text("valid/toy.json"), old, by));
        seal(folder);
    }

    TemporaryFolder temporary;
    fs::path folder;
};

}  // namespace

TEST_CASE_FIXTURE(Toy, "a bundle lists its plans and gives its tensors where they are mapped") {
    const auto bundle = Bundle::open(folder.string());
    REQUIRE(bundle.ok());
    CHECK(bundle->plans() == std::vector<std::string>{"toy"});
    const auto kernel = bundle->tensor("weights.safetensors", "unet.kernel");
    REQUIRE(kernel.ok());
    CHECK(kernel->dtype == DType::float32);
    CHECK(kernel->shape == Shape{4, 4});
    CHECK(std::string(static_cast<const char*>(kernel->data), kernel->bytes) ==
          float_bytes(std::vector<float>(16, 2)));
    CHECK(bundle->tensor("weights.safetensors", "unet.kernel")->data == kernel->data);
    CHECK(contains(bundle->tensor("weights.safetensors", "x").status().message(), "no tensor 'x'"));
    CHECK(bundle->tensor("../x", "x").status().rule() == 4);
    CHECK(contains(bundle->tensor("plans/toy.json", "x").status().message(),
                   "not a safetensors file"));
}

TEST_CASE_FIXTURE(Toy, "an unknown plan or backend is told with the known ones") {
    const auto bundle = Bundle::open(folder.string());
    const Status plan = bundle->player("tyo", "null").status();
    CHECK(plan.code() == StatusCode::input_error);
    CHECK(contains(plan.message(), "no plan 'tyo' (did you mean 'toy'?); its plans: 'toy'"));
    const Status backend = bundle->player("toy", "nul").status();
    CHECK(backend.code() == StatusCode::backend_error);
    CHECK(contains(backend.message(), "no backend 'nul' (did you mean 'null'?)"));
}

TEST_CASE_FIXTURE(Toy, "what is no bundle is refused") {
    CHECK(contains(refusal(folder / "nothing").message(), "no such folder"));
    CHECK(contains(refusal(folder / "bundle.json").message(), "no such folder"));
    CHECK(contains(refusal(folder / "plans").message(), "keepstep export"));
    CHECK(contains(refusal("").message(), "no such folder"));
    CHECK(contains(Bundle::open(std::string_view("a\0b", 3)).status().message(), "NUL"));
    for (const fs::path& path : {folder / "nothing", folder / "plans", folder / "bundle.json"}) {
        CHECK(refusal(path).code() == StatusCode::bundle_error);
        CHECK(refusal(path).rule() == 0);
    }
}

TEST_CASE_FIXTURE(Toy, "a broken manifest is refused") {
    for (const std::string content : {"", "{", "[]", "\xFF", R"({"keepstep": 1})"}) {
        write(folder / "bundle.json", content);
        CHECK(refusal(folder).rule() == 1);
        CHECK(refusal(folder).message().find("bundle.json: ") == 0);
    }
    write(folder / "bundle.json", R"({"keepstep": 7, "engines": []})");
    CHECK(refusal(folder).rule() == 2);
}

TEST_CASE_FIXTURE(Toy, "a listed path that escapes is refused") {
    for (const char* path :
         {"../x", "/etc/passwd", "a\\\\b", "C:/x", "", "a//b", "./a", "a\\u0000b"}) {
        seal(folder);
        manifest(R"("files": {)", R"("files": {")" + std::string(path) +
                                      R"(": {"bytes": 0, "sha256": ")" + std::string(64, '0') +
                                      "\"}, ");
        CAPTURE(path);
        CHECK(refusal(folder).rule() == 3);
    }
}

TEST_CASE_FIXTURE(Toy, "a tokenizer's name and path are checked") {
    const auto tokenizer = [&](const std::string& name, const std::string& file) {
        seal(folder, R"(["toy"])",
             "{\"" + name + R"(": {"file": ")" + file + R"(", "length": 4, "pad": 0}})");
        return refusal(folder);
    };
    CHECK(tokenizer("token_ids", "weights.safetensors").ok());
    CHECK(tokenizer("token_ids", "../x").rule() == 3);
    CHECK(tokenizer("token_ids", "x").rule() == 4);
    CHECK(tokenizer("token ids", "weights.safetensors").rule() == 5);
    CHECK(tokenizer("", "weights.safetensors").rule() == 5);
}

TEST_CASE_FIXTURE(Toy, "the length of prompts is bounded") {
    for (const char* length : {"0", "1048577", "1099511627776"}) {
        seal(folder, R"(["toy"])",
             R"({"token_ids": {"file": "weights.safetensors", "length": )" + std::string(length) +
                 R"(, "pad": 0}})");
        CAPTURE(length);
        CHECK(refusal(folder).rule() == 7);
        CHECK(contains(refusal(folder).message(), "expected 1 to 2^20 ids a prompt"));
    }
}

TEST_CASE_FIXTURE(Toy, "a symbolic link out of the bundle is refused") {
    for (const char* link : {"weights.safetensors", "stages", "bundle.json"}) {
        const fs::path outside = temporary.path() / "outside";
        fs::rename(folder / link, outside);
        fs::create_symlink(outside, folder / link);
        CAPTURE(link);
        CHECK(refusal(folder).rule() == 3);
        CHECK(contains(refusal(folder).message(), "symbolic link"));
        fs::remove(folder / link);
        fs::rename(outside, folder / link);
    }
    CHECK(refusal(folder).ok());
    fs::remove(folder / "weights.safetensors");
    fs::create_symlink("../nothing", folder / "weights.safetensors");
    CHECK(refusal(folder).rule() == 3);
}

TEST_CASE_FIXTURE(Toy, "a symbolic link within the bundle, and to it, is followed") {
    fs::rename(folder / "weights.safetensors", folder / "w");
    fs::create_symlink("w", folder / "weights.safetensors");
    seal(folder);
    CHECK(refusal(folder).ok());
    fs::create_symlink(folder, temporary.path() / "link");
    CHECK(refusal(temporary.path() / "link").ok());
}

TEST_CASE_FIXTURE(Toy, "plans are listed once, by their names, with their files") {
    seal(folder, R"(["toy", "other"])");
    CHECK(contains(refusal(folder).message(), "plans[1]: 'plans/other.json' is not listed"));
    seal(folder, R"(["toy", "toy"])");
    CHECK(contains(refusal(folder).message(), "twice"));
    seal(folder, R"(["../toy"])");
    CHECK(refusal(folder).rule() == 4);
    write(folder / "plans/.toy.json", "{}");
    seal(folder, R"([".toy"])");
    CHECK(refusal(folder).rule() == 5);
    replan(R"("name": "toy")", R"("name": "yot")");
    CHECK(contains(refusal(folder).message(), "name: expected 'toy', found 'yot'"));
    CHECK(refusal(folder).rule() == 4);
    replan("stages/full-00.onnx", "stages/other.onnx");
    CHECK(contains(refusal(folder).message(), "stages.full.engines.onnxruntime"));
    CHECK(refusal(folder).rule() == 4);
    replan(R"("keepstep": 2)", R"("keepstep": 3, "graphs": [])");
    CHECK(refusal(folder).rule() == 2);
}

TEST_CASE_FIXTURE(Toy, "a bundle and its plans are read each by its own format") {
    for (const char* plan : {"valid/toy.json", "valid/format-1.json"}) {
        write(folder / "plans/toy.json", plan_text(plan));
        seal(folder);
        CHECK(refusal(folder).ok());
        const fs::path manifest = folder / "bundle.json";
        write(manifest, replaced(read(manifest), R"("keepstep": 2)", R"("keepstep": 1)"));
        CHECK(refusal(folder).ok());
        write(manifest, replaced(read(manifest), R"("keepstep": 1)", R"("keepstep": 3)"));
        CHECK(refusal(folder).rule() == 2);
    }
}

TEST_CASE_FIXTURE(Toy, "constants must be in their files") {
    const std::pair<const char*, const char*> changes[] = {
        {R"("tensor": "coef")", R"("tensor": "coefs")"},
        {R"("tensor": "coef")", R"("tensor": "times")"},
        {R"("file": "plans/toy.safetensors")", R"("file": "plans/toy.json")"}};
    for (const auto& [old, by] : changes) {
        replan(old, by);
        CAPTURE(by);
        CHECK(refusal(folder).rule() == 10);
    }
}

TEST_CASE_FIXTURE(Toy, "bad plans are refused from within a bundle") {
    for (const char* stage : {"spare", "idle", "late", "last", "mask", "note", "begin",
                              "write"}) {
        write(folder / "stages" / (std::string(stage) + "-00.onnx"), "");
    }
    for (const fs::path& file : plan_files("bad")) {
        const int rule = std::stoi(file.filename().string().substr(0, 2));
        if (rule < 11) continue;
        write(folder / "plans/toy.json", read(file));
        seal(folder);
        const Status status = refusal(folder);
        CAPTURE(file.filename().string());
        CHECK(status.rule() == rule);
        CHECK(status.message().find("plans/toy.json: ") == 0);
    }
}

}  // namespace keepstep::tests
