"""Arithmetic settings an Ascend card needs before the fleet connects."""

from ganfleet.errors import ConfigError

_hf32: bool | None = None  # what this process has told MindSpore, which takes each setting once


def make_deterministic(hf32: bool | None = None) -> None:
    """Run deterministic kernels; convolutions and matrix products of float32 in HF32 or, by default, in float32.

    HF32 has the range of float32 and 11 bits of mantissa. Without this, CANN takes it for convolutions alone.

    Must come before ``mindspore.communication.init``. A second call with the same ``hf32``, or None, changes nothing.

    Raises:
        ConfigError: the process has chosen otherwise before.
    """
    global _hf32
    if _hf32 is not None and hf32 in (None, _hf32):
        return
    import mindspore
    from mindspore.device_context.ascend import op_precision

    try:
        if mindspore.get_context("deterministic") != "ON":
            mindspore.set_deterministic(True)
        op_precision.conv_allow_hf32(bool(hf32))
        op_precision.matmul_allow_hf32(bool(hf32))
    except RuntimeError as error:
        raise ConfigError(
            f"ganfleet needs deterministic kernels and HF32 as fleet.hf32 says ({bool(hf32)}), but this process has "
            f"set them otherwise ({error}): leave mindspore.set_deterministic, conv_allow_hf32 and matmul_allow_hf32 "
            "to ganfleet, and start another process for another fleet.hf32"
        ) from error
    _hf32 = bool(hf32)
