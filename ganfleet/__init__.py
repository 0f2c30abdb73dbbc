"""Train GANs over a fleet of cards, with the same bits for any number of them.

``Strategy``, ``Player``, ``Phase``, ``Frozen``, ``Stage`` and ``Ema`` are what a model is made of. ``train``, ``load``,
``evaluate`` and ``Config`` run it. ``DataParallel`` and ``connect`` are for a training loop of one's own, ``Callback``
is for what should happen beside training.
"""

import importlib
import os

# MindSpore reads this once, when it is first imported. Without it, Conv2d falls to oneDNN's
# reference kernel on AVX-512 machines, 40 to 60 times slower. No effect on Ascend.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
# MindSpore's warnings are a page per start and hide the run's own lines; its errors stay.
os.environ.setdefault("GLOG_v", "3")
# How long a CPU collective waits for a late rank, in seconds, about as long as HCCL's does. By default it is 30, and a
# run ends in which one rank compiles a stage's graphs that much longer. A rank that dies is noticed by other means.
os.environ.setdefault("MS_CPU_COMM_OP_TIMEOUT", "1800")
# The same for HCCL, whose ranks give up after 120 seconds on one that has not come to their first collective.
os.environ.setdefault("HCCL_CONNECT_TIMEOUT", "1800")
# Ranks that look for each other through msrun's scheduler, or leave it, sleep so many seconds in between: by default 3
# to 5, several times per start.
os.environ.setdefault("MS_RETRY_INTERVAL_LOWER", "1")
os.environ.setdefault("MS_RETRY_INTERVAL_UPPER", "2")
# MindSpore sets this too when it is imported, which is too late where tensorboardX has loaded protobuf before: then
# protobuf refuses MindSpore 2.8's and 2.9's own messages.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

__version__ = "0.2.0.dev0"


# What the package offers, by the module it is imported from when it is used: MindSpore takes seconds to import.
_PUBLIC = {
    "Callback": "ganfleet.engine.callbacks",
    "Config": "ganfleet.config",
    "DataParallel": "ganfleet.engine.data_parallel",
    "Ema": "ganfleet.strategies.base",
    "Frozen": "ganfleet.strategies.base",
    "Phase": "ganfleet.strategies.base",
    "Player": "ganfleet.strategies.base",
    "Resolution": "ganfleet.size",
    "Size": "ganfleet.size",
    "Stage": "ganfleet.strategies.base",
    "Strategy": "ganfleet.strategies.base",
    "StrategyOptions": "ganfleet.strategies.base",
    "connect": "ganfleet.api",
    "evaluate": "ganfleet.engine.evaluate",
    "load": "ganfleet.engine.loaded",
    "train": "ganfleet.api",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ganfleet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
