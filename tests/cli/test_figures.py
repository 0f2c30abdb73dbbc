"""The figures of ``ganfleet sample``: what is where in them, and which options do not go together."""

from pathlib import Path

import numpy as np
import pytest
from commands import TINY, ganfleet, one_error
from PIL import Image
from stored import save_start_of

from ganfleet import load
from ganfleet.errors import ConfigError
from ganfleet.observe.grid import grid
from ganfleet.store import checkpoint

STYLEGAN = """\
strategy:
  {name: stylegan, resolution: 8, latent: 8, mapping_layers: 1, fmap_base: 32, fmap_max: 8, conditional: true,
  mbstd_group: 1}
train: {batch_size: 1, lanes: 1}
"""
TILE, GAP = 64, 2  # an image of 8x8 is shown eight times as large


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds runs/style, whose noise is as strong as in a trained one, and runs/plain, a GAN without styles."""
    runs = tmp_path_factory.mktemp("figures") / "runs"
    save_start_of(TINY.replace("batch_size: 16, lanes: 4", "batch_size: 1, lanes: 1"), runs / "plain", scale=5)
    [path] = checkpoint.within(save_start_of(STYLEGAN, runs / "style", classes=10))
    snapshot = checkpoint.load(path)
    for component in ("G.weights", "G.ema"):
        for name, array in snapshot.tensors[component].items():
            if "noise" in name:
                array += np.float32(0.3)
    checkpoint.save(path.parent, snapshot, 0, keep=1)
    return runs.parent


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


def sample(out, *options, run="runs/style"):
    return ganfleet("sample", "--checkpoint", run, "--out", out, *options)


def tiles(path, rows, columns):
    """The images of a grid, (rows, columns, 64, 64), without the margins of its labels."""
    picture = np.asarray(Image.open(path).convert("L")).astype(int)
    height, width = rows * (TILE + GAP) - GAP, columns * (TILE + GAP) - GAP
    field = picture[-height:, -width:]
    rows, columns = (range(0, length, TILE + GAP) for length in field.shape)
    return np.stack([[field[y : y + TILE, x : x + TILE] for x in columns] for y in rows])


def test_style_mixing_shows_its_sources_in_the_margins():
    ended = sample("mix.png", "--figure", "mix", "cols=3-5", "rows=1,2", "layers=0-3", "--classes", "0", "noise=none")
    assert ended.code == 0, ended.output
    mix = tiles("mix.png", 3, 4)
    assert (mix[0, 0] == 255).all()
    assert sample("alone.png", "--seeds", "1-5", "--classes", "0", "noise=none").code == 0
    alone = tiles("alone.png", 1, 5)[0]
    np.testing.assert_array_equal(mix[0, 1:], alone[2:])
    np.testing.assert_array_equal(mix[1:, 0], alone[:2])
    # Without noise, with every layer's style from the row, nothing of the column is left.
    for row in (1, 2):
        for column in (1, 2, 3):
            np.testing.assert_allclose(mix[row, column], mix[row, 0], atol=2)


def test_the_noise_figure_has_five_panels_a_seed():
    ended = sample("noise.png", "--figure", "noise", "seeds=0,1")
    assert ended.code == 0, ended.output
    panels = tiles("noise.png", 2, 5)
    assert panels[:, 4].max() == 255  # the spread, scaled by its largest


def test_classes_have_a_row_each():
    assert sample("classes.png", "--classes", "0,7", "--seeds", "0-3").code == 0
    rows = tiles("classes.png", 2, 4)
    assert np.abs(rows[0] - rows[1]).max() > 0


def test_an_interpolation_is_an_animation_of_as_many_frames():
    ended = sample("walk.webp", "--figure", "interpolate", "seeds=1,2", "frames=6", run="runs/plain")
    assert ended.code == 0, ended.output
    with Image.open("walk.webp") as walk:
        assert (walk.format, walk.n_frames, walk.size) == ("WEBP", 6, (TILE, TILE))


def test_truncation_moves_every_image_to_the_same_one():
    assert sample("mean.png", "--seeds", "1,2", "--classes", "0", "truncation=0", "noise=none").code == 0
    mean = tiles("mean.png", 1, 2)[0]
    np.testing.assert_allclose(mean[0], mean[1], atol=1)
    assert sample("first.png", "--seeds", "1,2", "--classes", "0", "truncation=0", "truncation_layers=1").code == 0
    assert np.abs(np.diff(tiles("first.png", 1, 2)[0], axis=0)).max() > 0


def test_a_checkpoint_lists_its_figures_and_options():
    listed = ganfleet("sample", "--checkpoint", "runs/style", "--figures").output
    for line in (
        "--figure mix: ",
        "--figure noise: ",
        "--figure interpolate: ",
        "frames=60",
        "truncation=",
        "noise=all",
    ):
        assert line in listed
    listed = ganfleet("sample", "--checkpoint", "runs/plain", "--figures").output
    assert "--figure interpolate: " in listed and "--figure mix" not in listed and "every image: none" in listed


@pytest.fixture(scope="module")
def style(directory):
    with load(directory / "runs" / "style") as loaded:
        yield loaded


def test_in_python_a_figure_is_the_picture_that_the_command_writes(style):
    drawn = style.figure("mix", label=0, rows=[1, 2], cols="3-5", layers="0-3", noise="none")
    layout = {"row_labels": drawn.row_labels, "column_labels": drawn.column_labels}
    asked = ("--figure", "mix", "cols=3-5", "rows=1,2", "layers=0-3", "--classes", "0", "noise=none")
    assert sample("by-command.png", *asked).code == 0
    picture = np.asarray(Image.open("by-command.png").convert("L"))
    np.testing.assert_array_equal(grid(drawn.images, drawn.columns, **layout), picture)
    assert style.figure("interpolate", seeds=(1, 2), frames=4).frames.shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    "figure, options, told",
    [
        ("mix", {"rows": 0, "cols": 1, "layers": "fine"}, "layers=fine: this model has the layers 0-3"),
        ("mix", {"rows": 0, "cols": 1, "layers": "x"}, "write coarse, middle, fine, or layers such as 4-7"),
        ("mix", {"rows": "0", "layers": "0"}, "cols= is missing"),
        ("mix", {"rows": "0", "colls": "1"}, r"unknown option colls: did you mean cols\?; cols= is missing; layers="),
        ("mix", {"rows": "3-1", "cols": 1, "layers": "0"}, "rows=3-1: .3-1. lists nothing"),
        ("mix", {"rows": "a", "cols": 1, "layers": "0"}, "rows=a: .a. is no list of numbers: write 0-63 or 0-3,9"),
        ("mics", {}, "has no figure 'mics': it has mix, noise, interpolate"),
        ("noise", {"noise": "none"}, "every choice of noise: leave noise= out"),
        ("noise", {"truncaton": "0.5"}, "unknown option truncaton: did you mean truncation"),
        ("noise", {"truncation_layers": "2"}, "truncation_layers= is for truncation="),
        ("interpolate", {"seeds": "1"}, "seeds=1: two seeds or more are needed"),
        ("interpolate", {"seeds": "1,2,3", "frames": "2"}, "frames=2 are fewer than the 3 seeds"),
    ],
)
def test_options_that_a_figure_cannot_be_drawn_with_are_refused(figure, options, told, style):
    with pytest.raises(ConfigError, match=told):
        style.figure(figure, **options)


@pytest.mark.parametrize(
    "options, told",
    [
        (["--figure", "mix", "rows=0", "rows=1"], "rows= is given twice"),
        (["--figure", "mix", "rows"], "'rows' is no option: write key=value"),
        (["--figure", "mix", "--seeds", "0"], "--seeds does not go with --figure"),
        (["--figure", "mix", "--then", "runs/plain"], "--then does not go with --figure"),
        (["--figure", "mix", "--classes", "0,1"], "--figure shows one class"),
        (["--figure", "interpolate", "seeds=1,2"], "the figure interpolate is an animation, one of .gif, .webp, .mp4"),
        (
            ["noise=loud", "seeds=0"],
            "there are truncation, truncation_layers, noise; noise=loud: it must be all, none, fine or coarse",
        ),
        (["--seeds", "0", "--classes", "10"], "there are the classes 0-9"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, told):
    assert told in one_error(sample("no.png", *options), 2)
    assert not Path("no.png").exists()


@pytest.mark.parametrize(
    "options, told",
    [
        (["truncation=0.5"], "unknown option truncation: there is none"),
        (["--figure", "mix", "rows=0"], "has no figure 'mix': it has interpolate"),
        (["--classes", "1"], "no classes"),
    ],
)
def test_a_model_without_styles_or_classes_says_so(options, told):
    assert told in one_error(sample("no.png", *options, run="runs/plain"), 2)
