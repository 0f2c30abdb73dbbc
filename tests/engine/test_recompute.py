"""Blocks that are computed again for their gradients: the same bits, by graphs that keep less."""

from collections import Counter

import mindspore as ms
import numpy as np
import pytest
from commands import ganfleet, one_error, tiny
from fleets import digest
from mindspore import Tensor
from mindspore import nn as ms_nn
from mindspore.graph.api import _cell_graph_executor
from mindspore.train.mind_ir_pb2 import ModelProto

from ganfleet import nn
from ganfleet.engine import compile_cache
from ganfleet.strategies.diffusion.unet import UNet
from ganfleet.strategies.imagen.networks import EfficientUNet
from ganfleet.strategies.unclip.networks import PriorTransformer


class Blocks(ms_nn.Cell):
    """One of each kind."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.ResidualBlock(4, 4, 3), nn.PixelAttention(4, 2, 3)
        self.third = nn.TransformerBlock(4, 2)

    def construct(self, x, embedding, context):
        y = self.second(self.first(x, embedding), context)
        return (self.third(y.reshape(2, 16, 4)) ** 2).mean()


class Gradients(compile_cache.Graph):
    def __init__(self, net):
        super().__init__()
        self.net, self.weights = net, ms.ParameterTuple(net.trainable_params())

    @ms.jit
    def construct(self, x, embedding, context):
        loss, gradients = ms.value_and_grad(self.net, None, self.weights)(x, embedding, context)
        return (loss, *gradients)


def gradients(recomputed):
    """Loss and gradients, and how many operators of each kind the graph has."""
    ms.set_context(mode=ms.GRAPH_MODE)
    rng, net = np.random.default_rng(0), Blocks()
    for parameter in net.get_parameters():
        parameter.set_data(Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    if recomputed:
        assert nn.recompute(net) == 3
    graph = Gradients(net)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 4, 4), (2, 3), (2, 5, 3))]
    with compile_cache.unused():
        found = [each.asnumpy().copy() for each in graph(*map(Tensor, inputs))]
    described = _cell_graph_executor._graph_executor.get_func_graph_proto(graph.compile_phase, "mind_ir", False)
    nodes = ModelProto.FromString(described).graph.node
    return found, Counter(part for node in nodes for part in node.op_type.split(":"))


def test_a_gradient_has_the_same_bits_and_computes_each_block_again():
    (kept, once), (again, twice) = gradients(False), gradients(True)
    assert all(map(np.array_equal, again, kept))
    assert once["Softmax"] == 2 and twice["Softmax"] == 4


@pytest.mark.slow
def test_a_run_goes_on_with_and_without_and_its_graphs_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "strategy: {name: diffusion, resolution: 8, width: 4, multipliers: [1], blocks: 1, attention: [], steps: 2}\n"
        "train: {batch_size: 4, lanes: 2, steps: 2}\n"
        "log: {samples: 1}\n"
    )
    refused = list(compile_cache.refusals)
    for name, steps, recomputed in (("turns", 1, True), ("turns", 2, False), ("alone", 2, False)):
        words = [f"run.name={name}", f"train.steps={steps}", f"train.recompute={recomputed}"]
        ended = ganfleet("train", "--config", "config.yaml", *words)
        assert ended.code == 0, ended.output
    assert digest(tmp_path / "runs" / "turns") == digest(tmp_path / "runs" / "alone")
    assert compile_cache.refusals == refused


def test_the_networks_of_text_to_image_have_such_blocks():
    def count(net):
        return len(nn.recomputable(net))

    # Of each level one on the way down and two up, one between levels in each direction, and two in the middle.
    assert count(UNet(3, 3, 4, (1, 2), 1, (), 8)) == 2 * (1 + 2) + 2 + 2
    assert count(EfficientUNet(3, 3, (4, 8), (1, 2), 5, heads=2)) == 2 * (1 + 2) + 2
    assert count(PriorTransformer(5, 3, 4, 8, 6, 2)) == 6


def test_networks_without_blocks_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = one_error(ganfleet("train", "--config", tiny(tmp_path), "train.recompute=true"), 2)
    assert "train.recompute is set, and no network has a block that can be computed again" in message
