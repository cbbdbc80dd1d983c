#include "terminal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "failure.h"

namespace keepstep::tool {
namespace {

struct Character {
    std::uint32_t code;
    std::size_t bytes;  // 0: what stands there is no UTF-8
};

/// The first character of a text that is not empty.
Character first(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    const std::size_t bytes = lead < 0xC2   ? 0
                              : lead < 0xE0 ? 2
                              : lead < 0xF0 ? 3
                              : lead < 0xF5 ? 4
                                            : 0;
    if (bytes == 0 || text.size() < bytes) return {lead, 0};
    std::uint32_t code = lead & (0xFFU >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return {lead, 0};
        code = code << 6 | (byte(i) & 0x3FU);
    }
    const std::uint32_t least = bytes == 2 ? 0x80 : bytes == 3 ? 0x800 : 0x10000;
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (code < least || code > 0x10FFFF || surrogate) return {lead, 0};
    return {code, bytes};
}

/// Moves the cursor, changes colours, turns or hides what follows: nothing that is read.
bool acts(std::uint32_t code) {
    const auto within = [code](std::uint32_t begin, std::uint32_t end) {
        return code >= begin && code <= end;
    };
    return (code < 0x20 && code != '\n') || within(0x7F, 0x9F) || code == 0xAD || code == 0x61C ||
           within(0x200B, 0x200F) || within(0x2028, 0x202E) || within(0x2060, 0x206F) ||
           code == 0xFEFF || within(0xFFF9, 0xFFFB) || within(0xE0000, 0xE007F);
}

std::string written_out(std::uint32_t code) {
    char text[16];
    const char* format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";
    std::snprintf(text, sizeof text, format, static_cast<unsigned>(code));
    return text;
}

bool is_open(int descriptor) {
    struct stat found {};
    return fstat(descriptor, &found) == 0;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string safe;
    while (!text.empty()) {
        const auto [code, bytes] = first(text);
        if (bytes == 0 || acts(code)) {
            safe += written_out(code);
        } else {
            safe += text.substr(0, bytes);
        }
        text.remove_prefix(bytes == 0 ? 1 : bytes);
    }
    return safe;
}

void check_output() {
    const bool closed = !is_open(STDOUT_FILENO);
    for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (!is_open(descriptor)) open("/dev/null", O_RDWR);  // takes the lowest number: this one
    }
    if (closed) {
        throw Failure{"the output is closed, so nobody would see what was done: redirect it to a "
                      "file, or to /dev/null, and run again"};
    }
}

}  // namespace keepstep::tool
