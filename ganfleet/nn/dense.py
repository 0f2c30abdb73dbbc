"""The fully connected layer."""

from mindspore import nn, ops

from ganfleet.nn import forms
from ganfleet.nn.init import Constant, fan_in_uniform, parameter
from ganfleet.nn.precision import lowered, raised


class Dense(nn.Cell):
    """(…, in) → (…, out): x·Wᵀ + b.

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
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        y = self.matmul(lowered(rows, self.compute_type), lowered(self.factor(), self.compute_type))
        y = raised(y, self.compute_type)
        y = y if self.bias is None else forms.bias_add(y, self.bias)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1])
