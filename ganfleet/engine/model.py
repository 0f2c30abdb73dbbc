"""A strategy's networks and players; initial weights depend on the seed and their names alone, whatever the stage."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np

from ganfleet.engine import contract
from ganfleet.engine.player import FlatPlayer
from ganfleet.errors import CheckpointMismatch
from ganfleet.nn import initialize
from ganfleet.strategies.base import Stage, Strategy


class Model:
    """The networks of one stage: ``nets`` has each by name as an attribute, ``players`` are what trains them."""

    def __init__(self, strategy: Strategy, seed: int, stage: Stage):
        # In MindSpore's default mode the thread that waits for a graph spins, on the core the kernels are pinned to.
        ms.set_context(mode=ms.GRAPH_MODE)
        declared = contract.players(strategy, stage)
        nets = {}
        for name, player in declared.items():
            nets |= contract.networks(name, player)
        for name, net in nets.items():
            net.update_parameters_name(f"{name}.")
            net.set_train(True)
            for parameter in net.get_parameters():
                initialize(parameter, seed)
        self.nets = SimpleNamespace(**nets)
        self.players = {name: FlatPlayer(name, player) for name, player in declared.items()}

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """The tensors of every player, by checkpoint component."""
        return {name: tensors for player in self.players.values() for name, tensors in player.tensors().items()}

    def inherit(self, tensors: dict[str, dict[str, np.ndarray]]) -> None:
        """Take over weights and EMA, by name, from the ``tensors`` of the stage before; optimizers start afresh."""
        for player in self.players.values():
            player.inherit(tensors)

    def load(self, tensors: dict[str, dict[str, np.ndarray]]) -> None:
        """Take back what ``tensors`` gave.

        Raises:
            CheckpointMismatch: a tensor that these networks need is missing or has another shape.
        """
        try:
            for player in self.players.values():
                player.load(tensors)
        except (KeyError, ValueError) as error:
            raise CheckpointMismatch(
                f"the checkpoint does not fit the networks of its config ({error}): was the strategy's code changed?"
            ) from error
