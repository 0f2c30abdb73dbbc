"""Arithmetic settings an Ascend card needs before the fleet connects."""


def make_deterministic() -> None:
    """Run deterministic kernels, and float32 convolutions in float32 rather than HF32.

    Must come before ``mindspore.communication.init``.
    """
    import mindspore
    from mindspore.device_context.ascend import op_precision

    mindspore.set_deterministic(True)
    op_precision.conv_allow_hf32(False)
