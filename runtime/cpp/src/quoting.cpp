#include "quoting.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>

namespace keepstep::internal {
namespace {

constexpr std::size_t longest = 80;          // characters of a quoted value
constexpr std::size_t longest_told = 400;    // characters of another library's message
constexpr std::size_t most_names = 12;       // names in a list
constexpr std::size_t searched_names = 1000; // looking for a close match costs time per name
constexpr std::size_t compared = 200;        // characters of a name that are compared

/// Bytes of the UTF-8 character at the beginning of `text`, and the character; one byte if none.
std::size_t decoded(std::string_view text, std::uint32_t& character) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    character = byte(0);
    const std::size_t length = character < 0xC2   ? 1
                               : character < 0xE0 ? 2
                               : character < 0xF0 ? 3
                               : character < 0xF5 ? 4
                                                  : 1;
    if (length == 1 || text.size() < length) return 1;
    std::uint32_t joined = character & (0xFFU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return 1;
        joined = joined << 6 | (byte(i) & 0x3FU);
    }
    character = joined;
    return length;
}

std::string escape_of(std::uint32_t character) {
    switch (character) {
        case '\n': return "\\n";
        case '\r': return "\\r";
        case '\t': return "\\t";
        case '\\': return "\\\\";
        case '\'': return "\\'";
        default: break;
    }
    if (character >= 0x20 && character < 0x7F) return {static_cast<char>(character)};
    char buffer[16];
    const char* format = character < 0x100     ? "\\x%02x"
                         : character < 0x10000 ? "\\u%04x"
                                               : "\\U%08x";
    std::snprintf(buffer, sizeof buffer, format, static_cast<unsigned>(character));
    return buffer;
}

/// The least number of letters to put in, take out or change on the way from one to the other.
std::size_t distance(std::string_view one, std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < one.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < other.size(); ++j) {
            const std::size_t changed = diagonal + (one[i] == other[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, changed});
        }
    }
    return row.back();
}

}  // namespace

std::string escape(std::string_view name) {
    std::string text;
    for (std::size_t at = 0; at < name.size();) {
        std::uint32_t character = 0;
        at += decoded(name.substr(at), character);
        const std::string next = escape_of(character);
        if (text.size() + next.size() > longest - 2) return text + "…";
        text += next;
    }
    return text;
}

std::string sanitize(std::string_view text) {
    std::string line;
    for (const char c : text.substr(0, longest_told)) {
        line += c >= 0x20 && c < 0x7F ? c : ' ';
    }
    return text.size() > longest_told ? line + "…" : line;
}

std::string quote(std::string_view text) { return "'" + escape(text) + "'"; }

std::string quote_names(const std::vector<std::string>& names) {
    if (names.empty()) return "none";
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < most_names; ++i) {
        text += (i == 0 ? "" : ", ") + quote(names[i]);
    }
    return names.size() > most_names ? text + ", …" : text;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
    const std::string_view wanted = name.substr(0, compared);
    std::size_t least = (wanted.size() + 1) / 2 + 1;  // about half of the letters are right
    const std::string* closest = nullptr;
    for (std::size_t i = 0; i < known.size() && i < searched_names; ++i) {
        const std::size_t found = distance(wanted, std::string_view(known[i]).substr(0, compared));
        if (found < least && found < known[i].size()) {
            least = found;
            closest = &known[i];
        }
    }
    return closest == nullptr ? "" : " (did you mean " + quote(*closest) + "?)";
}

}  // namespace keepstep::internal
