#include "progress.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "failure.h"

namespace keepstep::tool {
namespace {

volatile sig_atomic_t came = 0;  // the number of a signal

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
    action.sa_handler = [](int number) { came = number; };
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction before {};
        sigaction(number, nullptr, &before);
        if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);  // nohup
    }
}

bool is_interrupted() noexcept { return came != 0; }

void check_interrupts() {
    if (!is_interrupted()) return;
    const std::string what = came == SIGTERM  ? "ended by SIGTERM"
                             : came == SIGHUP ? "ended by SIGHUP"
                                              : "interrupted";
    throw Failure{what + "; nothing was written", ended + came};
}

}  // namespace keepstep::tool
