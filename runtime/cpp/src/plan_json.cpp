#include "plan_json.h"

#include <utility>

#include "node.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::size_t most_defaults = 4096;  // entries of a default

/// The version comes before any other field: what a newer file holds, we cannot judge.
std::int64_t version_of(const Node& root) {
    const Node node = root.field("keepstep");
    const std::int64_t version = node.integer();
    if (version > format_version) {
        node.refuse("format version " + std::to_string(version) +
                        ", but this keepstep reads versions 1 and " +
                        std::to_string(format_version) +
                        "; update keepstep, or export the bundle again with this one",
                    2);
    }
    if (version < 1) {
        node.refuse("format version " + std::to_string(version) + ", expected 1 and " +
                        std::to_string(format_version),
                    2);
    }
    return version;
}

/// A list or object of things that `read` reads.
template <class T, class Read>
std::vector<T> list_of(const Node& node, Read read) {
    std::vector<T> found;
    node.each_element([&](const Node& element) { found.push_back(read(element)); });
    return found;
}

template <class T, class Read>
OrderedMap<T> named_of(const Node& node, Read read) {
    OrderedMap<T> found;
    node.each_member([&](const std::string& name, const Node& member) {
        found.add(name, read(member));
    });
    return found;
}

std::string text_of(const Node& node) { return node.text(); }

Type type_of(const Node& node) {
    return {node.field("dtype").text(),
            list_of<std::int64_t>(node.field("shape"), [](const Node& n) { return n.integer(); })};
}

Type tensor_of(const Node& node) {
    node.check_fields({"dtype", "shape"});
    return type_of(node);
}

Range range_of(const Node& node) {
    const auto bounds = list_of<double>(node, [](const Node& n) { return n.number(); });
    if (bounds.size() != 2) node.expected("[lowest, highest]");
    return {bounds[0], bounds[1]};
}

Default default_of(const Node& node) {
    Default found;
    const auto add = [&](const Node& entry) {  // which of the two a dtype has is rule 8
        const bool is_boolean = entry.is_boolean();
        found.booleans += is_boolean ? 1 : 0;
        found.entries.push_back(is_boolean ? (entry.boolean() ? 1 : 0) : entry.number());
    };
    found.is_list = node.is_list();
    if (!found.is_list) {
        add(node);
        return found;
    }
    if (node.size() < 1 || node.size() > most_defaults) {
        node.refuse(std::to_string(node.size()) + " entries, expected 1 to " +
                    std::to_string(most_defaults));
    }
    node.each_element(add);
    return found;
}

Value value_of(const Node& node, std::int64_t version) {
    // Which of the optional fields a kind has is rule 8, and the known kinds are rule 6.
    if (version == 1) {
        node.check_fields({"kind", "dtype", "shape"},
                          {"offset", "file", "tensor", "feed", "range"});
    } else {
        node.check_fields({"kind", "dtype", "shape"},
                          {"offset", "file", "tensor", "feed", "range", "default"});
    }
    Value value;
    value.kind = node.field("kind").text();
    value.type = type_of(node);
    if (const auto offset = node.find("offset")) value.offset = offset->integer();
    if (const auto file = node.find("file")) value.file = file->text();
    if (const auto tensor = node.find("tensor")) value.tensor = tensor->text();
    if (const auto feed = node.find("feed")) value.feed = feed->boolean();
    if (const auto range = node.find("range")) value.range = range_of(*range);
    if (const auto given = node.find("default")) value.fallback = default_of(*given);
    return value;
}

Stage stage_of(const Node& node, std::int64_t version) {
    if (version == 1) {
        node.check_fields({"inputs", "outputs", "weights", "macs", "engines"});
    } else {
        node.check_fields({"inputs", "outputs", "weights", "macs", "engines"}, {"in_place"});
    }
    Stage stage;
    stage.inputs = named_of<Type>(node.field("inputs"), tensor_of);
    stage.outputs = named_of<Type>(node.field("outputs"), tensor_of);
    stage.engines = named_of<std::string>(node.field("engines"), text_of);
    stage.weights = named_of<std::string>(node.field("weights"), text_of);
    stage.macs = node.field("macs").integer();
    if (const auto pairs = node.find("in_place")) {
        stage.in_place = named_of<std::string>(*pairs, text_of);
    }
    return stage;
}

Binding binding_of(const Node& node) {
    if (node.is_text()) return {node.text(), std::nullopt};
    if (!node.is_list() || node.size() != 2) node.expected("a value's name or [name, row]");
    return {node.element(0).text(), node.element(1).integer()};
}

Call call_of(const Node& node) {
    node.check_fields({"stage", "reads", "writes"}, {"step"});
    Call call;
    call.stage = node.field("stage").text();
    call.reads = named_of<Binding>(node.field("reads"), binding_of);
    call.writes = named_of<Binding>(node.field("writes"), binding_of);
    if (const auto step = node.find("step")) call.step = step->integer();
    return call;
}

Step step_of(const Node& node, std::int64_t version) {
    const std::string_view label = version == 1 ? "kind" : "label";
    node.check_fields({label, "timestep", "kept"});
    Step step;
    step.label = node.field(label).text();  // what it may say is rule 19
    step.timestep = node.field("timestep").number();
    const Node kept = node.field("kept");
    if (!kept.is_null()) step.kept = kept.integer();
    return step;
}

Tokenizer tokenizer_of(const Node& node) {
    node.check_fields({"file", "length", "pad"});
    return {node.field("file").text(), node.field("length").integer(),
            node.field("pad").integer()};
}

FileEntry file_entry_of(const Node& node) {
    node.check_fields({"bytes", "sha256"});
    const Node field = node.field("sha256");
    std::string digest = field.text();
    for (char& digit : digest) {
        if ('A' <= digit && digit <= 'Z') digit = static_cast<char>(digit - 'A' + 'a');
    }
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != digest.npos) {
        field.refuse("expected 64 hex digits, found " + quote(digest));
    }
    return {node.field("bytes").integer(), std::move(digest)};
}

}  // namespace

Plan plan_from_json(std::string_view text, const std::string& where) {
    const Json json = parse_json(text, where);
    const Node root(json, where);
    const std::int64_t version = version_of(root);
    root.check_fields({"keepstep", "name", "arena_bytes", "values", "stages", "calls", "steps"});
    const auto of_version = [&](auto read) {
        return [version, read](const Node& node) { return read(node, version); };
    };
    Plan plan;
    plan.version = version;
    plan.name = root.field("name").text();
    plan.values = named_of<Value>(root.field("values"), of_version(value_of));
    plan.stages = named_of<Stage>(root.field("stages"), of_version(stage_of));
    plan.calls = list_of<Call>(root.field("calls"), call_of);
    plan.steps = list_of<Step>(root.field("steps"), of_version(step_of));
    plan.arena_bytes = root.field("arena_bytes").integer();
    return plan;
}

Manifest manifest_from_json(std::string_view text, const std::string& where) {
    const Json json = parse_json(text, where);
    const Node root(json, where);
    static_cast<void>(version_of(root));  // both have the same fields
    root.check_fields({"keepstep", "producer", "model", "plans", "tokenizers", "files"});
    Manifest manifest;
    manifest.producer = root.field("producer").text();
    manifest.model = named_of<std::string>(root.field("model"), text_of);
    manifest.plans = list_of<std::string>(root.field("plans"), text_of);
    manifest.files = named_of<FileEntry>(root.field("files"), file_entry_of);
    manifest.tokenizers = named_of<Tokenizer>(root.field("tokenizers"), tokenizer_of);
    return manifest;
}

}  // namespace keepstep::internal
