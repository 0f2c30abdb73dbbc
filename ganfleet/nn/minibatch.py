"""What a discriminator sees of its whole batch, so that a generator cannot do with little variety."""

from mindspore import ops

from ganfleet.nn import forms


def minibatch_stddev(x, group=4):
    """(n, c, h, w) → (n, c + 1, h, w): the mean standard deviation over groups, as one more channel (arXiv:1710.10196).

    A group is ``group`` samples n / group apart, or all n where there are fewer; n is a multiple of the
    group, which is not checked here: a ``raise`` in a graph breaks gradient penalties.
    """
    n, c, h, w = x.shape
    group = min(group, n)
    y = x.reshape(group, -1, c, h, w)
    y = y - forms.mean(y, 0, True)
    deviation = forms.mean(ops.sqrt(forms.mean(y * y, 0) + 1e-8), (1, 2, 3), True)
    deviation = ops.broadcast_to(deviation.reshape(1, -1, 1, 1, 1), (group, n // group, 1, h, w))
    return ops.concat((x, deviation.reshape(n, 1, h, w)), 1)


def joined(real, fake, group=4):
    """Two batches (n, …) as one (2n, …), of which ``minibatch_stddev`` makes the same groups as of each by itself.

    ``group`` divides n.
    """
    n = real.shape[0]
    parts = (group, n // group, *real.shape[1:])
    return ops.concat((real.reshape(parts), fake.reshape(parts)), 1).reshape(2 * n, *real.shape[1:])


def parted(scores, group=4):
    """The scores (2n,) of what was ``joined``, as those of both batches, (n,) each."""
    n = scores.shape[0] // 2
    parts = scores.reshape(group, 2, n // group)
    return parts[:, 0].reshape(n), parts[:, 1].reshape(n)
