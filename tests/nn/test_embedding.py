"""Embeddings are rows of a table, exact to second order."""

import mindspore as ms
import numpy as np
from mindspore import nn as ms_nn
from reference import assert_exact_to_second_order, normal

from ganfleet import nn

LABELS = np.int32([2, 0, 2, 3, 2])


class Scaled(ms_nn.Cell):
    """x · embedding, so that there is an input to differentiate by."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.labels = ms.Tensor(LABELS)

    def construct(self, x):
        return x * self.embedding(self.labels)


def test_embedding_is_a_row_of_its_table_to_second_order():
    assert_exact_to_second_order(Scaled(), lambda params, x: x * params[0][LABELS], normal(5, 3))
