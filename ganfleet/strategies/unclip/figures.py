"""What embeddings of images are good for (arXiv:2204.06125, section 3): variations, and ways from one to another."""

import numpy as np
from pydantic import Field

from ganfleet.errors import ConfigError
from ganfleet.strategies.diffusion.sampling import How
from ganfleet.strategies.figure import Figure, Picture
from ganfleet.strategies.options import ImageFile, Numbers, Options

ETAS = (0.0, 0.5, 1.0)  # of DDIM, for variations
CHOSEN = ("how_method", "how_eta", "how_guidance")  # by that figure


class _Along(Figure):
    """Rows of seeds along a way between embeddings, which begins at that of ``prompt``."""

    farthest: float

    class Options(Options):
        to: str = Field(description="another prompt than prompt=")
        seeds: Numbers = Field((0, 1, 2, 3), description="a row each")
        columns: int = Field(6, ge=2, le=100, description="steps of the way")

    def __init__(self, strategy):
        self._strategy = strategy

    def draw(self, inputs_of, draw, options):
        told = self._strategy.encoded(options.to)
        starts = [inputs_of(seed) for seed in options.seeds]
        more = {"to_text": told["text"], "to_mask": told["text_mask"]} | self.more(told, starts)
        shares = np.linspace(0, self.farthest, options.columns)
        inputs = [start | more | {"share": np.float32([share])} for start in starts for share in shares]
        rows = [f"seed {seed}" for seed in options.seeds]
        return Picture(draw(inputs), len(shares), rows, [f"{share:.2f}" for share in shares])

    def more(self, told: dict[str, np.ndarray], starts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Further inputs, for ways from ``starts`` to what the network is ``told`` of the other text."""
        return {}


class Interpolation(_Along):
    """From the embedding of an image for one prompt to that for another, along a great circle (section 3.2)."""

    help = "from prompt=… to=…, through the embeddings of images"
    farthest = 1.0


class Difference(_Along):
    """Half of the way from an image's embedding to the difference of two texts' (section 3.3)."""

    help = "images of prompt=…, changed by what to=… says otherwise"
    farthest = 0.5

    def more(self, told, starts):
        if any(np.array_equal(start["text"], told["text"]) for start in starts):
            raise ConfigError(
                "prompt= and to= are the same to the text encoder: choose texts that differ within data.tokens, and "
                "not in case alone"
            )
        return {"difference": np.ones(1, np.float32)}


class Variations(Figure):
    """An image, and images of its embedding alone: DDIM's way back to noise, and again to images with ever more noise
    of their own (section 3.1)."""

    help = "an image and variations of it"
    varies = ("prompt", "eta", "method", "guidance")

    class Options(Options):
        image: ImageFile = Field(description="the file of an image")
        seeds: Numbers = Field((0, 1, 2, 3), description="a row each")

    def __init__(self, strategy):
        self._strategy = strategy

    def draw(self, inputs_of, draw, options):
        image = options.image[None]
        inputs = [inputs_of(seed) | self._strategy.nothing() | {"image": image} for seed in options.seeds]
        columns = [np.repeat(image, len(inputs), 0)]
        columns += [draw([each | ddim(eta) for each in inputs]) for eta in ETAS]
        images = np.stack(columns, 1).reshape(-1, *image.shape[1:])
        rows, names = [f"seed {seed}" for seed in options.seeds], [f"eta {eta:g}" for eta in ETAS]
        return Picture(images, len(columns), rows, ["the image", *names])


def ddim(eta: float) -> dict[str, np.ndarray]:
    """The sample options of a variation, as inputs of an image."""
    return {name: value for name, value in How(method="ddim", eta=eta).as_inputs().items() if name in CHOSEN}
