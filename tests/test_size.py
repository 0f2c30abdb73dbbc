"""A resolution is one number where images are square, and a height and a width only where they are not."""

import json

import pytest
import yaml

from ganfleet import Config
from ganfleet.config import dump
from ganfleet.errors import ConfigError
from ganfleet.size import Size, factor, halves


def config(resolution, name="gan", *overrides, **options):
    return Config.from_dict({"strategy": {"name": name, "resolution": resolution} | options}, *overrides)


@pytest.mark.parametrize("given", [[32, 48], {"height": 32, "width": 48}, (32, 48), Size(32, 48)])
def test_a_height_and_a_width_can_be_written_in_two_ways(given):
    read = config(given)
    assert read.strategy.resolution == Size(32, 48) and str(read.strategy.resolution) == "32x48"
    assert json.loads(json.dumps(read.resolved()))["strategy"]["resolution"] == [32, 48]
    assert Config.from_dict(yaml.safe_load(dump(read))) == read


@pytest.mark.parametrize("given", [64, [64, 64], {"height": 64, "width": 64}])
def test_a_square_is_one_number_however_it_is_written(given):
    read = config(given, "dcgan")
    assert type(read.strategy.resolution) is int and read.resolved() == config(64, "dcgan").resolved()
    assert read.resolved()["strategy"]["resolution"] == 64


def test_overrides_take_either_form():
    assert config(8, "gan", "strategy.resolution=[8, 12]").strategy.resolution == Size(8, 12)
    assert config([8, 10], "gan", "strategy.resolution={height: 8, width: 12}").strategy.resolution == Size(8, 12)


@pytest.mark.parametrize("given", [True, "64", 64.5, None, [32], [1, 2, 3], [32, "48"], [32, True], {"height": 32}, []])
def test_what_is_no_size_is_refused(given):
    with pytest.raises(ConfigError, match=r"strategy\.resolution: must "):
        config(given)


@pytest.mark.parametrize("given", [0, -1, [0, 8], [8, -8]])
def test_sides_have_a_pixel_or_more(given):
    with pytest.raises(ConfigError, match="must be 1 or more"):
        config(given)


def test_a_strategy_that_does_not_say_that_it_can_makes_square_images_only(monkeypatch):
    assert config([8, 8], "tiny_gan:TinyGAN").strategy.resolution == 8
    with pytest.raises(ConfigError, match=r"strategy\.resolution: must be one number: this strategy makes square"):
        config([8, 12], "tiny_gan:TinyGAN")


def test_halves_go_on_while_both_sides_are_even_and_have_four_pixels():
    assert halves(64) == [32, 16, 8, 4] and halves(28) == [14, 7] and halves(4) == []
    assert halves(Size(32, 48)) == [Size(16, 24), Size(8, 12), Size(4, 6)]
    assert halves(Size(36, 64)) == [Size(18, 32), Size(9, 16)]
    assert halves(Size(64, 36)) == [Size(32, 18), Size(16, 9)]
    assert halves(Size(24, 8)) == [Size(12, 4)]


@pytest.mark.parametrize(
    "full, part, times",
    [
        (64, 16, 4),
        (Size(32, 48), Size(8, 12), 4),
        (Size(32, 48), Size(32, 48), 1),
        (64, 24, 0),
        (64, 0, 0),
        (Size(32, 48), 16, 0),
        (Size(32, 48), Size(8, 24), 0),
        (Size(32, 48), Size(12, 8), 0),
        (16, 32, 0),
    ],
)
def test_one_number_divides_both_sides(full, part, times):
    assert factor(full, part) == times
