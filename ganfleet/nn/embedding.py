"""Labels as vectors."""

from mindspore import nn, ops

from ganfleet.nn.init import Normal, parameter


class Embedding(nn.Cell):
    """Labels (n,), integers below ``classes`` → (n, features): rows of a learned table, drawn from N(0, 1).

    One-hot rows times the table, because the gradient of a lookup is summed in whatever order the device likes.
    """

    def __init__(self, classes, features, init=None):
        super().__init__()
        self.classes = classes
        self.weight = parameter("weight", (classes, features), init or Normal(1.0))

    def construct(self, label):
        return ops.matmul(ops.one_hot(label, self.classes, 1.0, 0.0), self.weight)
