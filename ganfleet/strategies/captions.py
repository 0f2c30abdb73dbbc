"""What strategies share that learn from captions."""

from pydantic import PositiveInt

from ganfleet.errors import ConfigError
from ganfleet.strategies.base import ImageSpec, StrategyOptions
from ganfleet.text import Text


class CaptionOptions(StrategyOptions):
    """``features`` of a token, and ``tokens`` of a caption, for a plan without data: otherwise the data say them."""

    features: PositiveInt | None = None
    tokens: PositiveInt = 32


def text_of(options: CaptionOptions, image: ImageSpec) -> Text:
    """How captions are encoded: as the data say, or before there are any, as ``options`` do.

    Raises:
        ConfigError: neither says it.
    """
    if image.text is not None:
        return image.text
    if options.features is None:
        raise ConfigError(
            "this strategy needs captions, and there are none: set data.source to captioned and data.path to their "
            "folder, or to see a plan without data, strategy.features to how many a token has"
        )
    return Text("", options.tokens, options.features, "")
