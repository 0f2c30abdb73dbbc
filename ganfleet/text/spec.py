"""What a model must know of the captions that it is trained with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """Captions as an encoder gives them to a model.

    Attributes:
        encoder: ``minilm``, or the folder of another one.
        tokens: of a caption at most; longer ones are cut, shorter ones filled up.
        features: of a token.
        sha256: of the encoder's weights and its tokenizer.
    """

    encoder: str
    tokens: int
    features: int
    sha256: str
