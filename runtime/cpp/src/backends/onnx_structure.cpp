#include "backends/onnx_structure.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "backends/onnx_model.h"
#include "backends/onnx_operators.h"
#include "backends/onnx_wire.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

using Types = OnnxModel::Types;

constexpr std::uint64_t oldest_opset = 20;  // which the exporter writes
constexpr std::array<std::string_view, 2> domains = {"", "com.microsoft"};

// A tensor within a network may be this much larger than the largest that the stage takes, gives or
// holds. Scores of all tokens for all tokens are the worst case: 2^28 elements in SDXL's decoder,
// whose history has 2^23.
constexpr std::int64_t proportion = 4096;
constexpr std::int64_t floor_bytes = std::int64_t{1} << 30;  // that any tensor may have
// Elements written and read by what is computed at load, beside four times those of all constants;
// and multiplications. The exporter leaves rows of a table of positions, and a mask.
constexpr std::int64_t most_folded = std::int64_t{1} << 26;
constexpr double most_multiplied = 4294967296.0;  // 2^32

/// Elements of a type that has been checked: 2^40 at most.
std::int64_t size_of(const Type& type) {
    std::int64_t size = 1;
    for (const std::int64_t axis : type.shape) size = size == 0 ? 0 : size * axis;
    return size;
}

void check_opsets(const std::map<std::string, std::uint64_t>& opsets) {
    for (const auto& [domain, version] : opsets) {
        if (std::find(domains.begin(), domains.end(), domain) == domains.end()) {
            throw OnnxFault{"operators of " + quote(domain) + " are imported, which no engine has"};
        }
        if (domain.empty() && version < oldest_opset) {
            throw OnnxFault{"opset " + std::to_string(version) + ", expected " +
                            std::to_string(oldest_opset) + " or later"};
        }
    }
    if (opsets.count("") == 0) throw OnnxFault{"no opset is imported"};
}

Types sorted(const OrderedMap<Type>& tensors) { return {tensors.begin(), tensors.end()}; }

std::string names_of(const Types& tensors) {
    std::vector<std::string> names;
    for (const auto& [name, _] : tensors) names.push_back(name);
    return quote_names(names);
}

void check_types(const char* what, const Types& found, const Types& expected) {
    const auto same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
    if (!std::equal(found.begin(), found.end(), expected.begin(), expected.end(), same_name)) {
        throw OnnxFault{std::string("the plan's ") + what + " are " + names_of(expected) +
                        ", the engine's " + names_of(found)};
    }
    for (const auto& [name, type] : expected) {
        const Type& has = found.at(name);
        if (has == type) continue;
        throw OnnxFault{std::string(what) + "." + escape(name) + ": the plan has " +
                        type_text(type) + ", the engine " + type_text(has)};
    }
}

/// The nodes in order, and what is known of tensors on the way.
class Walk {
  public:
    explicit Walk(const OnnxModel& model) : model_(model) {
        for (const Types* tensors : {&model.inputs, &model.constants, &model.handed_over}) {
            for (const auto& [name, type] : *tensors) declare(name, type);
        }
        for (const Types* tensors : {&model.constants, &model.handed_over}) {
            for (const auto& [name, type] : *tensors) {
                constant_.insert(name);
                folded_ -= 4 * size_of(type);
            }
        }
        for (const auto& [name, _] : model.constants) numbers_.insert(name);
        std::int64_t largest = 0;
        for (const Types* tensors : {static_cast<const Types*>(&types_), &model.outputs}) {
            for (const auto& [_, type] : *tensors) largest = std::max(largest, bytes_of(type));
        }
        most_ = std::max(floor_bytes, proportion * largest);
    }

    void check() {
        for (const OnnxNode& node : model_.nodes) visit(node);
        for (const auto& [name, _] : model_.outputs) {
            if (types_.count(name) == 0) {
                throw OnnxFault{"the output " + quote(name) + " is given by no node"};
            }
        }
    }

  private:
    void declare(const std::string& name, const Type& type) {
        if (name.empty() || !types_.emplace(name, type).second) {
            throw OnnxFault{"the tensor " + quote(name) + " is given twice, or has no name"};
        }
        const auto declared = model_.within.find(name);
        if (declared != model_.within.end() && declared->second != type) {
            throw OnnxFault{"the tensor " + quote(name) + " is declared as another one"};
        }
    }

    void visit(const OnnxNode& node) {
        const std::string place = escape(node.op) + " node " + quote(node.name);
        const auto kind = operator_kind(node.op);
        if (!kind) throw OnnxFault{place + ": no engine has this operator"};
        const std::size_t dot = node.op.rfind('.');
        if (model_.opsets.count(dot == node.op.npos ? "" : node.op.substr(0, dot)) == 0) {
            throw OnnxFault{place + ": the operators of its domain are not imported"};
        }
        const std::vector<std::string> given = named(node.inputs, 0);
        const std::vector<std::string> made = named(node.outputs, 0);
        for (const std::string& name : given) {
            if (types_.count(name) == 0) {
                throw OnnxFault{place + ": the input " + quote(name) +
                                " is given by nothing before it"};
            }
        }
        for (const std::string& name : that_say_shapes(node, *kind)) {
            if (numbers_.count(name) == 0) {
                throw OnnxFault{place + ": the input " + quote(name) +
                                " is no constant of the file"};
            }
        }
        for (const std::string& name : made) give(place, name);
        if (node.op == "Constant") numbers_.insert(made.begin(), made.end());
        if (kind == OperatorKind::of_shapes || all_constant(given)) {
            constant_.insert(made.begin(), made.end());
            for (const std::string& name : given) folded_ += size_of(types_.at(name));
            for (const std::string& name : made) folded_ += size_of(types_.at(name));
            multiplied_ += multiplications(*kind, given, made);
            if (folded_ > most_folded || multiplied_ > most_multiplied) {
                throw OnnxFault{place + ": what constants alone give is out of all proportion"};
            }
        }
    }

    void give(const std::string& place, const std::string& name) {
        auto declared = model_.outputs.find(name);
        if (declared == model_.outputs.end()) {
            declared = model_.within.find(name);
            if (declared == model_.within.end()) {
                throw OnnxFault{place + ": the output " + quote(name) + " has no declared type"};
            }
        }
        const Type& type = declared->second;
        if (bytes_of(type) > most_) {
            throw OnnxFault{place + ": the output " + quote(name) + " is " + type_text(type) +
                            ", " + std::to_string(bytes_of(type)) +
                            " bytes, out of proportion to a stage whose tensors justify " +
                            std::to_string(most_)};
        }
        if (!types_.emplace(name, type).second) {
            throw OnnxFault{place + ": the output " + quote(name) + " is given before"};
        }
    }

    bool all_constant(const std::vector<std::string>& names) const {
        return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
            return constant_.count(name) != 0;
        });
    }

    /// Those of `names` from `first` on that are not left out.
    static std::vector<std::string> named(const std::vector<std::string>& names,
                                          std::size_t first) {
        std::vector<std::string> found;
        for (std::size_t i = first; i < names.size(); ++i) {
            if (!names[i].empty()) found.push_back(names[i]);
        }
        return found;
    }

    /// The inputs whose elements are to be known before the node is played.
    static std::vector<std::string> that_say_shapes(const OnnxNode& node, OperatorKind kind) {
        if (kind == OperatorKind::shaped_by_all_numbers) return named(node.inputs, 0);
        if (kind == OperatorKind::shaped_by_other_numbers) return named(node.inputs, 1);
        return {};
    }

    /// No fewer than the node takes.
    double multiplications(OperatorKind kind, const std::vector<std::string>& given,
                           const std::vector<std::string>& made) const {
        if (given.empty()) return 0;
        std::int64_t each = 0;
        if (kind == OperatorKind::matrix_product) {
            each = 1;
            const Type& first = types_.at(given[0]);
            if (!first.shape.empty()) {
                each = *std::max_element(first.shape.begin(), first.shape.end());
            }
        } else if (kind == OperatorKind::windowed) {
            each = size_of(types_.at(given.size() > 1 ? given[1] : given[0]));
        }
        double size = 0;
        for (const std::string& name : made) size += double(size_of(types_.at(name)));
        return size * double(each);
    }

    const OnnxModel& model_;
    Types types_;                     // of what is there before a node
    std::set<std::string> numbers_;   // whose elements are in the file
    std::set<std::string> constant_;  // or follow from what is
    std::int64_t most_ = 0;           // bytes of a tensor
    std::int64_t folded_ = 0;
    double multiplied_ = 0;
};

}  // namespace

Finding rule_20_engine(std::string_view file, const Stage& stage,
                       const std::map<std::string, Type>& weights) {
    try {
        const OnnxModel model = read_onnx(file);
        check_opsets(model.opsets);
        check_types("inputs", model.inputs, sorted(stage.inputs));
        check_types("outputs", model.outputs, sorted(stage.outputs));
        check_types("weights", model.handed_over, weights);
        Walk(model).check();
        return std::nullopt;
    } catch (OnnxFault& fault) {
        return std::move(fault.message);
    }
}

std::map<std::string, Type> weight_types(const Plan& plan, const Stage& stage) {
    std::map<std::string, Type> types;
    for (const auto& [tensor, value] : stage.weights) types[tensor] = plan.values.at(value).type;
    return types;
}

}  // namespace keepstep::internal
