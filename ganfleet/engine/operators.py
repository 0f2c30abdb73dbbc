"""What a compiled graph is made of, and operators by which a model would depend on more than config, seed and data."""

import math
import re
import warnings
from collections.abc import Callable

import mindspore as ms
import numpy as np

from ganfleet.errors import ConfigError

# By their names in MindSpore 2.10. Each process, and each time that it begins, has other numbers for them.
RANDOM = frozenset(
    {
        *("Bernoulli", "BernoulliExt", "Cauchy", "Dropout", "Dropout2D", "Dropout2dExt", "Dropout3D", "DropoutExt"),
        *("DropoutGenMask", "DropoutGenMaskExt", "FuncDropoutExt", "FractionalAvgPool", "FractionalMaxPool"),
        *("FractionalMaxPool3DWithFixedKsize", "FractionalMaxPoolWithFixedKsize", "Gamma", "InplaceBernoulliScalar"),
        *("InplaceBernoulliTensor", "InplaceExponential", "InplaceNormal", "InplaceRandom", "InplaceUniform"),
        *("LogNormalReverse", "LogUniformCandidateSampler", "Multinomial", "MultinomialExt"),
        *("MultinomialWithReplacement", "NonDeterministicInts", "NormalFloatFloat", "NormalFloatTensor"),
        *("NormalTensorFloat", "NormalTensorTensor", "ParameterizedTruncatedNormal", "Poisson", "RandExt", "RandInt"),
        *("RandIntLike", "RandLikeExt", "Randn", "RandnLike", "RandomCategorical", "RandomChoiceWithMask"),
        *("RandomGamma", "RandomPoisson", "RandomShuffle", "Randperm", "RandpermExt", "RandpermV2"),
        *("SampleDistortedBoundingBoxV2", "StandardLaplace", "StandardNormal", "TruncatedNormal", "Uniform"),
        *("UniformCandidateSampler", "UniformExt", "UniformInt", "UniformReal"),
    }
)
# MindSpore's CPU kernels try several sizes of blocks in their first calls, and keep the one that was fastest. Of these
# kernels, a value's last digit depends on where it is in its block. What to use instead:
UNSTEADY = {
    "Elu": "ganfleet.nn.elu",
    "Log": "ganfleet.nn.log or logsumexp",
    "Mish": "ganfleet.nn.mish",
    "Pow": "ganfleet.nn.power, or exp(y * ganfleet.nn.log(x)) where the exponent is a tensor,",
    "PowTensorScalar": "ganfleet.nn.power",
    "Softplus": "ganfleet.nn.softplus",
}
STEADY_POWERS = {0.0, 1.0, 2.0}  # where the exponent is one number

tell: Callable[[str], None] = warnings.warn  # whom an operator is told to; a run says it
_told: set[str] = set()


def check(graph, compiled: bytes | None) -> None:
    """Look at what a ``compile_cache.Graph`` was ``compiled`` to, in MindSpore's format. None, where MindSpore cannot
    write it down, is nothing that a strategy computes.

    An operator whose last digits are not steady is told once, if the graph ``trains``.

    Raises:
        ConfigError: it draws random numbers.
    """
    nodes = _nodes(compiled or b"")
    found = {operator for operator, _ in nodes}
    code = graph.code()
    where = f"{getattr(code, '__qualname__', type(code).__name__)}()"
    if drawn := sorted(found & RANDOM):
        raise ConfigError(
            f"{where} draws random numbers in its graph ({', '.join(drawn)}): every rank would draw others, and so "
            f"would a run that is resumed. Have draw() return them, a dropout's mask too, and take them from the noise"
        )
    if graph.trains and ms.get_context("device_target") == "CPU":
        for operator in sorted({operator for operator, steady in nodes if not steady} - _told):
            _told.add(operator)
            tell(
                f"{where} has MindSpore's {operator} in its graph, whose last digits on a CPU depend on how often it "
                f"has run: fleets of other sizes, and runs that are resumed, may not end with the same bits. "
                f"{UNSTEADY[operator]} is steady"
            )


def _nodes(compiled: bytes) -> set[tuple[str, bool]]:
    """The operators in a graph, and whether they are steady; none if none of them matters here."""
    from mindspore.train.mind_ir_pb2 import ModelProto

    if not (RANDOM | set(UNSTEADY)).intersection(name.decode() for name in re.findall(rb"REF::(\w+):", compiled)):
        return set()  # a large graph takes long to read
    model = ModelProto.FromString(compiled)
    nodes = [node for each in (model.graph, *model.functions) for node in each.node]  # functions are branches and loops
    made_by = {name: node for node in nodes for name in node.output}
    found = set()
    for node in nodes:
        operator = _operator(node)
        steady = operator not in UNSTEADY or _is_undivided(node)
        if operator.startswith("Pow"):
            steady = steady or _is_steady(made_by.get(node.input[1]))
        found.add((operator, steady))
    return found


def _operator(node) -> str:
    return node.op_type.removeprefix("REF::").partition(":")[0]


def _is_undivided(node) -> bool:
    """Whether what it gives is one number, or float64, whose kernels compute all of a block in one way."""
    given = [tensor for each in node.attribute for tensor in each.tensors]
    return all(tensor.data_type == tensor.DOUBLE or math.prod(tensor.dims) == 1 for tensor in given)


def _is_steady(exponent) -> bool:
    """Whether powers with the ``exponent`` that a node makes, if one does, are steady."""
    if exponent is None:
        return False
    if exponent.op_type != "Constant":
        return _operator(exponent) == "SubScalar"  # of a power's gradient; the power itself is in this graph too
    [value] = exponent.attribute
    if value.tensors:
        [tensor] = value.tensors
        is_number = tensor.data_type == tensor.FLOAT and math.prod(tensor.dims) == 1
        return is_number and np.frombuffer(tensor.raw_data, np.float32)[0] in STEADY_POWERS
    return (value.i or value.d or value.f) in STEADY_POWERS
