#include "backends/onnx_operators.h"

#include <map>
#include <string>
#include <utility>

namespace keepstep::internal {
namespace {

constexpr std::pair<OperatorKind, std::string_view> lists[] = {
    {OperatorKind::shaped_by_inputs,
     "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitShift "
     "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant Cos "
     "Cosh CumSum DepthToSpace Div Elu Equal Erf Exp Flatten Floor Gather GatherElements GatherND "
     "Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid "
     "HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu "
     "Less LessOrEqual Log LogSoftmax LpNormalization Max Mean Min Mish Mod Mul Neg Not Or PRelu "
     "Pow RMSNormalization Reciprocal Relu Round ScatterElements ScatterND Selu Shrink Sigmoid "
     "Sign Sin Sinh Softmax Softplus Softsign SpaceToDepth Sqrt Sub Sum Swish Tan Tanh "
     "ThresholdedRelu Transpose Trilu Where Xor"},
    {OperatorKind::shaped_by_all_numbers, "ConstantOfShape Range"},
    {OperatorKind::shaped_by_other_numbers,
     "Expand OneHot Pad ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
     "ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape Resize Slice Split Squeeze Tile TopK "
     "Unsqueeze"},
    {OperatorKind::matrix_product, "Gemm MatMul"},
    {OperatorKind::windowed,
     "AveragePool Conv ConvTranspose MaxPool com.microsoft.MultiHeadAttention"},
    {OperatorKind::of_shapes, "Shape Size"},
};

std::map<std::string_view, OperatorKind> by_name() {
    std::map<std::string_view, OperatorKind> kinds;
    for (const auto& [kind, names] : lists) {
        for (std::string_view rest = names; !rest.empty();) {
            const std::string_view name = rest.substr(0, rest.find(' '));
            kinds.emplace(name, kind);
            rest.remove_prefix(name.size() == rest.size() ? rest.size() : name.size() + 1);
        }
    }
    return kinds;
}

}  // namespace

std::optional<OperatorKind> operator_kind(std::string_view name) {
    static const std::map<std::string_view, OperatorKind> kinds = by_name();
    const auto found = kinds.find(name);
    if (found == kinds.end()) return std::nullopt;
    return found->second;
}

}  // namespace keepstep::internal
