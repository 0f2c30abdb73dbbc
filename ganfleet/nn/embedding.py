"""Labels as vectors."""

import mindspore as ms
from mindspore import nn, ops

from ganfleet.nn.init import Normal, parameter
from ganfleet.nn.precision import lowered, raised


class Embedding(nn.Cell):
    """Labels (n,), integers below ``classes`` → (n, features): rows of a learned table, drawn from N(0, 1).

    One-hot rows times the table, because the gradient of a lookup is summed in whatever order the device likes.
    """

    compute_type = "float32"

    def __init__(self, classes, features, init=None):
        super().__init__()
        self.classes = classes
        self.weight = parameter("weight", (classes, features), init or Normal(1.0))

    def factor(self):
        """The weight by which ``construct`` multiplies."""
        return self.weight

    def construct(self, label):
        rows = lowered(one_hot(label, self.classes), self.compute_type)
        return raised(ops.matmul(rows, lowered(self.factor(), self.compute_type)), self.compute_type)


def one_hot(label, classes):
    """(n,) integers → (n, classes) float32. A comparison of integers would have no second derivative to compile."""
    return ops.one_hot(label, classes, ms.Tensor(1.0), ms.Tensor(0.0))
