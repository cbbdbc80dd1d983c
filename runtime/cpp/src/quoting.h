// How names and values are quoted in error messages.
//
// What is quoted may come from a hostile file: it is escaped and cut, so that a message stays one
// readable line whatever the file holds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace keepstep::internal {

/// Quotes a text (UTF-8, or any bytes), escaped and cut.
std::string quote(std::string_view text);
/// Writes a name without quotes, escaped and cut, as a part of a place.
std::string escape(std::string_view name);
/// What another library says, as one printable line: cut, and with blanks for what is no letter.
std::string sanitize(std::string_view text);
/// Quotes names with commas between; the first dozen of them.
std::string quote_names(const std::vector<std::string>& names);
/// ` (did you mean 'x'?)` when a known name is close to `name`, else nothing.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);

}  // namespace keepstep::internal
