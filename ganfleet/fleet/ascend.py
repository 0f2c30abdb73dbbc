"""Arithmetic settings an Ascend card needs before the fleet connects."""

from functools import cache

from ganfleet.errors import ConfigError


@cache  # MindSpore takes each setting once per process
def make_deterministic() -> None:
    """Run deterministic kernels, and float32 convolutions in float32 rather than HF32.

    Must come before ``mindspore.communication.init``. A second call changes nothing.

    Raises:
        ConfigError: the process has chosen otherwise before.
    """
    import mindspore
    from mindspore.device_context.ascend import op_precision

    try:
        if mindspore.get_context("deterministic") != "ON":
            mindspore.set_deterministic(True)
        op_precision.conv_allow_hf32(False)
    except RuntimeError as error:
        raise ConfigError(
            "ganfleet needs deterministic kernels and no HF32 convolutions, but this process has set them otherwise "
            f"({error}): leave mindspore.set_deterministic and conv_allow_hf32 to ganfleet"
        ) from error
