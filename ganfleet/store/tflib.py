"""TensorFlow networks out of NVlabs' ``.pkl`` files, without TensorFlow, and without running what the file says.

Such a file holds one network or several, usually G, D and G's average, each with the source of the function that builds
it. NVlabs' own reader runs that source; here it is not even looked at: a network is its variables, the name of the
function, and the arguments that were given to it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganfleet.errors import ConfigError
from ganfleet.store import pickles
from ganfleet.store.pickles import Malformed, Object

NETWORK = "Network"


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        function: the name of the function that builds it, such as ``G_style``.
        arguments: those that were given to the function; the others have its defaults.
        variables: arrays by name, those of networks that it is made of behind their names: ``mapping/Dense0/bias``.
    """

    function: str
    arguments: dict[str, Any]
    variables: dict[str, np.ndarray]


def _empty() -> dict:
    return {}


KNOWN: pickles.Known = {
    **pickles.ARRAYS,
    ("collections", "OrderedDict"): pickles.ordered,
    **{(module, "Network"): pickles.kept(NETWORK) for module in ("dnnlib.tflib.network", "tfutil", "network")},
    **{(module, "EasyDict"): _empty for module in ("dnnlib.util", "dnnlib", "config")},
}


def read(path: Path) -> list[Network]:
    """The networks in the file, in its order.

    Raises:
        ConfigError: there is no such file, it is damaged, or it holds something else than networks; the message says
            which name of Python's it asks for.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        found = pickles.loads(content, KNOWN)
        return [_network(each) for each in (found if isinstance(found, tuple | list) else [found])]
    except pickles.Forbidden as error:
        raise ConfigError(
            f"{path} asks for {error}, which no file of NVlabs' networks needs, so it is not read: fetch the file of "
            "the authors"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{path} is no file of NVlabs' networks, or not a whole one: {pickles.reason(error)}. Fetch it again"
        ) from error


def _network(found: Any) -> Network:
    if type(found) is not Object or found.path != NETWORK or type(found.state) is not dict:
        kind = found.path if type(found) is Object else type(found).__name__
        raise Malformed(f"it has something of the type {kind} where a network is expected")
    state = found.state
    if "build_func_name" not in state:
        raise Malformed("it is of the Theano release, whose networks have other names")
    components = state.get("components", {}).items()
    variables = {f"{name}/{inner}": a for name, part in components for inner, a in _network(part).variables.items()}
    variables |= {str(name): pickles.array(value) for name, value in state["variables"]}
    return Network(str(state["build_func_name"]), dict(state["static_kwargs"]), variables)
