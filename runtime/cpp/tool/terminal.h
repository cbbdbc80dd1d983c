// The program's streams: what is printed on them is not acted upon, and they are there.
#pragma once

#include <string>
#include <string_view>

namespace keepstep::tool {

/// Text whose control and hidden characters are written out, as in `\x1b`, and so is what is no
/// UTF-8; ends of lines are kept.
std::string printable(std::string_view text);

/// Throws a failure where the output is closed: the next file that is opened would take its
/// number, and what is printed would be written into that. A closed error stream takes nothing
/// from then on.
void check_output();

}  // namespace keepstep::tool
