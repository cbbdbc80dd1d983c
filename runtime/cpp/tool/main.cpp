// The program `keepstep-run`: plays a plan of a bundle, arrays to arrays or to a picture.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#include "failure.h"
#include "play.h"
#include "request.h"
#include "terminal.h"

namespace {

using keepstep::tool::Failure;
using keepstep::tool::Request;

constexpr const char* description =
    "Play a plan of a bundle: arrays to arrays, or to a picture, and the time of every kind of "
    "call.";
constexpr const char* examples = R"(Examples:
  keepstep run engines/emoji --prompt "a red apple" --save-inputs in.safetensors
  keepstep-run engines/emoji --inputs in.safetensors --png apple.png
  keepstep-run engines/emoji --inputs in.safetensors --plan dato-coco --repeat 5
  keepstep-run engines/emoji --list)";

void describe(CLI::App& app, Request& request) {
    app.set_help_flag("-h,--help", "Say this.");
    app.set_version_flag("--version", "keepstep-run " KEEPSTEP_VERSION, "Say the version.");
    app.footer(examples);
    const auto option = [&](const char* name, auto& variable, const char* of, const char* what) {
        return app.add_option(name, variable, what)->option_text(of);
    };
    option("BUNDLE", request.bundle, " ", "A bundle made by `keepstep export`.")->required();
    option("--inputs", request.inputs, "FILE", "A safetensors file with what the plan takes.");
    option("--outputs", request.outputs, "FILE", "A safetensors file: where results go.");
    option("--png", request.png, "FILE", "A PNG file: the picture, a batch side by side.");
    option("--plan", request.plan, "NAME", "Which plan; the first one if not given.");
    option("--backend", request.backend, "NAME", "The first that runs engines if not given.");
    option("--threads", request.threads, "N", "CPU threads; all cores if not given.")
        ->check(CLI::Range(1, 1024));
    option("--repeat", request.repeat, "N", "Play N times more, and give the medians of those.")
        ->check(CLI::Range(1, 1'000'000));
    app.add_flag("--json", request.json, "Print JSON instead of tables.");
    app.add_flag("--list", request.list, "Play nothing: say what the plan takes and gives.");
    app.add_flag("--no-hashes", request.skip_hashes, "Trust files that have the right size.");
}

/// Prints what a command has found; a full disk behind a pipe is a failure, too.
void print(const std::string& text) {
    if (std::fputs(keepstep::tool::printable(text).c_str(), stdout) < 0 ||
        std::fflush(stdout) != 0) {
        throw Failure{std::string("the output cannot be written: ") + std::strerror(errno)};
    }
}

/// Tells a failure in one line, whatever a path in it holds, and gives the exit code.
int sanitize(Failure failure) {
    std::replace(failure.message.begin(), failure.message.end(), '\n', ' ');
    std::fprintf(stderr, "keepstep-run: %s\n",
                 keepstep::tool::printable(failure.message).c_str());
    return failure.code;
}

/// Does what is asked for, and gives the exit code; throws the failure that ends it.
int run(CLI::App& app, const Request& request, int count, char** arguments) {
    keepstep::tool::check_output();
    if (count == 1) {
        print(app.help());
        return keepstep::tool::mistake;
    }
    try {
        app.parse(count, arguments);
    } catch (const CLI::CallForHelp&) {
        print(app.help());
        return 0;
    } catch (const CLI::CallForVersion& version) {
        print(version.what() + std::string("\n"));
        return 0;
    } catch (const CLI::ParseError& error) {
        throw Failure{std::string(error.what()) + ". See `keepstep-run --help`"};
    }
    print(request.list ? keepstep::tool::list(request) : keepstep::tool::play(request));
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    Request request;
    CLI::App app(description, "keepstep-run");
    describe(app, request);
    try {
        return run(app, request, count, arguments);
    } catch (const Failure& failure) {
        return sanitize(failure);
    } catch (const std::bad_alloc&) {
        return sanitize({"out of memory"});
    }
}
