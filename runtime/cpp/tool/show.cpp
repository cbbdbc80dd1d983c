#include "show.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>

namespace keepstep::tool {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

/// Characters of a text in UTF-8: names of a plan are ASCII, labels of steps are any text.
std::size_t width_of(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// Lines with their cells below each other.
std::string table(const std::vector<Row>& rows, const std::vector<bool>& to_the_right) {
    std::vector<std::size_t> widths(to_the_right.size());
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], width_of(row[i]));
        }
    }
    std::string text;
    for (const Row& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string blanks(widths[i] - width_of(row[i]), ' ');
            line += to_the_right[i] ? blanks + row[i] : row[i] + blanks;
            line += "  ";
        }
        text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return text;
}

std::string formatted(const char* format, double number) {
    char text[64];
    std::snprintf(text, sizeof text, format, number);
    return text;
}

std::string duration(double seconds) {
    if (seconds >= 1) return formatted("%.2f s", seconds);
    if (seconds >= 1e-3) return formatted("%.1f ms", 1e3 * seconds);
    return formatted("%.1f us", 1e6 * seconds);
}

/// The part of all calls' time that each group takes, 0 to 1.
std::vector<double> shares(const std::vector<Group>& groups) {
    const double all =
        std::accumulate(groups.begin(), groups.end(), 0.0,
                        [](double sum, const Group& group) { return sum + group.seconds; });
    std::vector<double> found;
    for (const Group& group : groups) found.push_back(all > 0 ? group.seconds / all : 0);
    return found;
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none" : text;
}

std::string shape_text(const Shape& shape) {
    std::vector<std::string> axes;
    for (const std::int64_t axis : shape) axes.push_back(std::to_string(axis));
    return "[" + (axes.empty() ? "" : joined(axes)) + "]";
}

Json types_json(const Player& player, const std::vector<TensorType>& types) {
    Json entries = Json::object();
    for (const TensorType& type : types) {
        entries[type.name] = {{"dtype", dtype_name(type.dtype)}, {"shape", type.shape}};
        if (player.has_default(type.name)) entries[type.name]["has_default"] = true;
    }
    return entries;
}

Json group_json(const Group& group) {
    return {{"stage", group.stage},
            {"label", group.label.empty() ? Json() : Json(group.label)},
            {"calls", group.calls}};
}

/// JSON as the command `keepstep` prints it; a path of the user's may be no UTF-8.
std::string printed(const Json& json) {
    return json.dump(1, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string played_text(const Played& played) {
    const Times& times = played.times;
    const std::vector<double> parts = shares(times.groups);
    std::vector<Row> rows = {{"stage", "label", "calls", "total", "mean", "share"}};
    std::size_t calls = 0;
    for (std::size_t i = 0; i < times.groups.size(); ++i) {
        const Group& group = times.groups[i];
        calls += group.calls;
        rows.push_back({group.stage, group.label, std::to_string(group.calls),
                        duration(group.seconds),
                        duration(group.seconds / static_cast<double>(group.calls)),
                        formatted("%.0f %%", 100 * parts[i])});
    }
    rows.push_back({"the whole run", "", std::to_string(calls), duration(times.seconds)});
    std::string text = played.written.empty() ? "" : joined(played.written) + ": ";
    text += played.plan + ", " + duration(times.seconds) + "\n\n";
    text += table(rows, {false, false, true, true, true, true});
    if (!played.note.empty()) text += played.note + "\n";
    if (played.runs > 1) text += "medians of " + std::to_string(played.runs) + " runs\n";
    return text;
}

std::string played_json(const Played& played) {
    const Times& times = played.times;
    const std::vector<double> parts = shares(times.groups);
    Json calls = Json::array();
    for (std::size_t i = 0; i < times.groups.size(); ++i) {
        const Group& group = times.groups[i];
        Json entry = group_json(group);
        entry["seconds"] = group.seconds;
        entry["mean_seconds"] = group.seconds / static_cast<double>(group.calls);
        entry["share"] = parts[i];
        calls.push_back(entry);
    }
    return printed({{"plan", played.plan},
                    {"backend", played.backend},
                    {"runs", played.runs},
                    {"seconds", times.seconds},
                    {"calls", calls},
                    {"written", played.written},
                    {"note", played.note.empty() ? Json() : Json(played.note)}});
}

std::string listing_text(const Listing& listing) {
    const Player& player = listing.player;
    std::vector<Row> calls = {{"stage", "label", "calls"}};
    for (const Group& group : grouped(player.calls())) {
        calls.push_back({group.stage, group.label, std::to_string(group.calls)});
    }
    std::vector<Row> values = {{"value", "", "dtype", "shape"}};
    const auto add = [&](const char* role, const std::vector<TensorType>& types) {
        for (const TensorType& type : types) {
            values.push_back({type.name, player.has_default(type.name) ? "input with a default" : role,
                              dtype_name(type.dtype), shape_text(type.shape)});
        }
    };
    add("input", player.inputs());
    add("optional input", player.feeds());
    add("output", player.outputs());
    return listing.plan + ": " + std::to_string(player.calls().size()) + " calls\n\n" +
           table(calls, {false, false, true}) + "\n" +
           table(values, {false, false, false, false}) +
           "\nplans of this bundle: " + joined(listing.plans) +
           "\nbackends of this build: " + joined(listing.backends) + "\n";
}

std::string listing_json(const Listing& listing) {
    const Player& player = listing.player;
    Json calls = Json::array();
    for (const Group& group : grouped(player.calls())) calls.push_back(group_json(group));
    return printed({{"plan", listing.plan},
                    {"calls", calls},
                    {"inputs", types_json(player, player.inputs())},
                    {"feeds", types_json(player, player.feeds())},
                    {"outputs", types_json(player, player.outputs())},
                    {"plans", listing.plans},
                    {"backends", listing.backends}});
}

std::string type_text(const TensorType& type) {
    return dtype_name(type.dtype) + shape_text(type.shape);
}

}  // namespace keepstep::tool
