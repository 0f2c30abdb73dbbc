"""The fully connected layer."""

from mindspore import nn, ops

from ganfleet.nn import forms
from ganfleet.nn.init import Constant, fan_in_uniform, parameter
from ganfleet.nn.precision import lowered, raised


class Dense(nn.Cell):
    """(n, in) → (n, out): x·Wᵀ + b.

    ``init`` is the weight's (out, in), by default U(±1/√fan_in); the bias starts at zero.
    """

    compute_type = "float32"

    def __init__(self, in_features, out_features, bias=True, init=None):
        super().__init__()
        shape = (out_features, in_features)
        self.weight = parameter("weight", shape, init or fan_in_uniform(shape))
        self.bias = parameter("bias", (out_features,), Constant(0.0)) if bias else None
        self.matmul = ops.MatMul(transpose_b=True)

    def factor(self):
        """The weight by which ``construct`` multiplies."""
        return self.weight

    def construct(self, x):
        y = self.matmul(lowered(x, self.compute_type), lowered(self.factor(), self.compute_type))
        y = raised(y, self.compute_type)
        return y if self.bias is None else forms.bias_add(y, self.bias)
