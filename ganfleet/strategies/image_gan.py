"""What GANs of images have in common: augmentations of all that D sees, and a D whose first layers do not learn."""

from typing import Annotated, Any, ClassVar, Literal

import mindspore as ms
import numpy as np
from mindspore import nn
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import model_validator as validated

from ganfleet.errors import ConfigError
from ganfleet.nn import augment
from ganfleet.size import Size
from ganfleet.strategies.base import Player, Stage, Strategy, StrategyOptions

KIMG, KIMG_OF_TRAINED = 500.0, 100.0  # in which p goes from 0 to 1 at most; the authors' for new and trained networks
GOES_WITH = {"policy": "diffaugment", "p": "ada", "target": "ada", "every": "ada", "kimg": "ada"}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Augment(BaseModel):
    """Which augmentation, and its settings.

    ``policy``, of ``diffaugment``, says what changes. The others are of ``ada``: ``p`` at first; ``target``, the mean
    sign of D's scores of real images that p is moved to keep, None for a p that stays; ``every`` how many batches p
    moves; in how many ``kimg`` it moves by 1, None for 500, and for 100 where the run begins with trained weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Literal["none", "diffaugment", "ada"] = "none"
    policy: Annotated[tuple[Literal[augment.POLICIES], ...], BeforeValidator(_as_tuple)] = Field(
        augment.POLICIES, min_length=1
    )
    p: float = Field(0.0, ge=0, le=1)
    target: float | None = Field(0.6, gt=-1, lt=1)
    every: PositiveInt = 4
    kimg: PositiveFloat | None = None

    @validated(mode="after")
    def _of_this_one(self):
        for option, name in GOES_WITH.items():
            if self.name != name and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(f"{option} goes with name: {name}, not {self.name}")
        if self.name == "ada" and self.target is None and not self.p:
            raise ValueError("with p: 0 and no target nothing is ever augmented: give p or target")
        return self


class ImageGAN(Strategy):
    """Base of GANs of images: D may be shown augmented images (``augment``), and its first layers may stay as they are
    (``freeze_d``).

    A loss hands what D is to judge to ``augmented``, real and generated images alike, so that G does not learn to make
    images that look augmented. A loss that asks D about real images hands their scores to ``adapted``. D's method
    ``path()`` gives its layers in the order in which an image passes them, each a tuple of Cells. The rest is done
    here, whatever a subclass's ``players`` and ``draw`` are.
    """

    class Options(StrategyOptions):
        augment: Annotated[Augment, BeforeValidator(_named)] = Augment()
        freeze_d: NonNegativeInt = 0

    judges: ClassVar[dict[str, tuple[str, ...]]] = {"D": ("real", "fake")}
    """Discriminators by name, with the kinds of images that each sees."""
    scores_have_signs: bool = True
    """Whether D's scores are above 0 where it takes an image for real."""

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        given, self.augment = options.augment, None
        if given.name == "diffaugment":
            self.augment = augment.DiffAugment(given.policy)
        elif given.name == "ada":
            self.augment = augment.BGC()
        self.adapts = given.name == "ada" and given.target is not None
        self.p = ms.Tensor(np.float32(given.p))

    def check(self, stage, lane_size):
        super().check(stage, lane_size)
        if self.adapts and not self.scores_have_signs:
            raise ConfigError(
                "strategy.augment: ada moves p by the signs of D's scores, and those of this loss have no zero: give a "
                "p that stays, as in strategy.augment={name: ada, p: 0.2, target: null}, or use diffaugment"
            )
        if self.options.freeze_d:
            if not self.begins_trained:
                raise ConfigError(
                    "strategy.freeze_d keeps layers of D as they are, and they would be as they were drawn: name the "
                    "run that trained them in train.init_from"
                )
            if len(self.schedule()) > 1:
                raise ConfigError(
                    "strategy.freeze_d needs a run of one stage, and this one grows: set strategy.start_resolution to "
                    "strategy.resolution"
                )

    # ── In a loss

    def augmented(self, nets, image, noise, view: str):
        """``image`` (n, channels, h, w) as D is to see it; ``view`` is what ``judges`` calls it, "D/real" or "D/fake".

        For ``nn.r1`` and others that derive by the image itself, see ``settings``.
        """
        if self.augment is None:
            return image
        return self.augment(image, self.settings(nets, noise, view))

    def settings(self, nets, noise, view: str):
        """How images of ``view`` are changed, for ``self.augment``; nothing where that is None."""
        if self.augment is None:
            return ()
        return self.augment.settings(noise[view], nets.ada.p() if self.adapts else self.p)

    def adapted(self, nets, real_scores, stats):
        """``stats``, with p where it adapts; the signs of D's ``real_scores`` move it."""
        if self.adapts:
            stats["augment/p"] = nets.ada.p()
            stats["augment/sign"] = nets.ada.add(real_scores)
        return stats

    # ── For the engine

    def completed(self, players: dict[str, Player], stage: Stage) -> dict[str, Player]:
        for name, player in players.items():
            nets = player.nets if isinstance(player.nets, dict) else {name: player.nets}
            judges = [each for each in nets if each in self.judges]
            for each in judges:
                freeze(each, nets[each], self.options.freeze_d)
            if judges and self.adapts:
                player.nets = nets | {"ada": self._adaptive(stage)}
        return players

    def _adaptive(self, stage: Stage) -> augment.Adaptive:
        given = self.options.augment
        kimg = given.kimg or (KIMG_OF_TRAINED if self.begins_trained else KIMG)
        step = stage.batch_size * given.every / (1000 * kimg)
        return augment.Adaptive(given.p, given.target, given.every, step)

    def draw_beside(self, rng, n, clock):
        if self.augment is None:
            return {}
        size = Size.of(self.stage(clock).resolution)
        views = [f"{name}/{view}" for name, views in self.judges.items() for view in views]
        return {view: self.augment.draw(rng, n, size) for view in views}


def freeze(name: str, d: nn.Cell, layers: int) -> None:
    """Keep the first ``layers`` layers of the discriminator ``d``, called ``name``, from learning (arXiv:2002.10964).

    Raises:
        ConfigError: it has no more, or does not say what its layers are.
    """
    if not layers:
        return
    if not hasattr(d, "path"):
        raise ConfigError(
            f"strategy.freeze_d: {name}, a {type(d).__name__}, does not say which layers an image passes: leave "
            "freeze_d out, or give its class a method path()"
        )
    found = d.path()
    if layers >= len(found):
        raise ConfigError(
            f"strategy.freeze_d is {layers}, and {name} has {len(found)} layers: use {len(found) - 1} at most"
        )
    for cells in found[:layers]:
        for cell in cells:
            for parameter in cell.get_parameters():
                parameter.requires_grad = False
