#include "progress.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "failure.h"

namespace keepstep::tool {
namespace {

volatile sig_atomic_t interrupts = 0;

}  // namespace

Counter::Counter(std::string what) : what_(std::move(what)), shown_(isatty(STDERR_FILENO) == 1) {}

Counter::~Counter() {
    if (shown_) std::fputs("\r\x1b[K", stderr);  // back, and everything erased
}

void Counter::tell(std::size_t done, std::size_t all) const {
    if (shown_) std::fprintf(stderr, "\r%s %zu/%zu …", what_.c_str(), done, all);
}

void catch_interrupts() {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupts = 1; };
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, nullptr);
}

bool is_interrupted() noexcept { return interrupts != 0; }

void check_interrupts() {
    if (is_interrupted()) check({StatusCode::cancelled, 0, {}});
}

}  // namespace keepstep::tool
