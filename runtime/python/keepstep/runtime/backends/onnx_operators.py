"""The operators that an engine may have, by how the shapes of their outputs are known.

Those of plain networks, a few more than the exporter writes. Left out is whatever holds a graph,
reads a file, draws random numbers, takes or gives what is no tensor, or gives as many elements as
its numbers happen to ask for. The C++ runtime has the same lists.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Shapes of outputs follow from those of inputs.
SHAPED_BY_INPUTS = _names(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant Cos Cosh
    CumSum DepthToSpace Div Elu Equal Erf Exp Flatten Floor Gather GatherElements GatherND Gelu
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish
    Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual
    Log LogSoftmax LpNormalization Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow RMSNormalization
    Reciprocal Relu Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
    Softmax Softplus Softsign SpaceToDepth Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Transpose
    Trilu Where Xor
    """
)

# Numbers in every input, or in every one but the first, say what shape the output has.
SHAPED_BY_ALL_NUMBERS = _names("ConstantOfShape Range")
SHAPED_BY_OTHER_NUMBERS = _names(
    """
    Expand OneHot Pad ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Reshape Resize Slice Split Squeeze Tile TopK Unsqueeze
    """
)

# Each element of an output takes as many multiplications as an axis of the first input is long,
MATRIX_PRODUCTS = _names("Gemm MatMul")
# or as the second input has elements; the first, where there is no second.
WINDOWED = _names(
    "AveragePool Conv ConvTranspose MaxPool com.microsoft.MultiHeadAttention",
)

# Constants, whatever is done to their inputs.
OF_SHAPES = _names("Shape Size")

OPERATORS = frozenset().union(
    SHAPED_BY_INPUTS, SHAPED_BY_ALL_NUMBERS, SHAPED_BY_OTHER_NUMBERS, MATRIX_PRODUCTS, WINDOWED
)
