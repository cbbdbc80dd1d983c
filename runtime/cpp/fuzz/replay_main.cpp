// In place of libFuzzer, for any compiler: a target runs once over every file that is named, and
// every file of the folders that are.
#include <cstdio>
#include <exception>
#include <filesystem>

#include "../tests/toy_bundle.h"
#include "demands.h"

int main(int count, char** arguments) try {
    namespace fs = std::filesystem;
    std::size_t inputs = 0;
    const auto replay = [&](const fs::path& file) {
        const std::string text = keepstep::tests::read(file);
        // A copy of just these bytes, so that a sanitizer sees reads behind them.
        const std::vector<std::uint8_t> bytes(text.begin(), text.end());
        std::printf("%s\n", file.c_str());
        std::fflush(stdout);  // the last line names the input that ends the program
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
        ++inputs;
    };
    for (int i = 1; i < count; ++i) {
        if (!fs::is_directory(arguments[i])) {
            replay(arguments[i]);
            continue;
        }
        for (const auto& entry : fs::directory_iterator(arguments[i])) replay(entry.path());
    }
    std::printf("%zu inputs\n", inputs);
    return inputs == 0 ? 1 : 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
