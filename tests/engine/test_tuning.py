"""From a trained StyleGAN to another: a run that begins with its weights at its last stage, and both blended."""

import numpy as np
import pytest
from commands import ganfleet, one_error
from in_memory import ArraySource, trainer

import ganfleet as library
from ganfleet.engine import blend as engine
from ganfleet.engine.resume import initialize
from ganfleet.errors import CheckpointMismatch
from ganfleet.store import checkpoint

GAN = "resolution: 8, latent: 4, mapping_layers: 1, mbstd_group: 2, stable_kimg: 0.016, fade_kimg: 0"
IMAGES = ArraySource("image", np.zeros((16, 1, 8, 8), np.uint8))


def started(directory, options, maps=32, **train):
    """A Trainer of a tiny StyleGAN at its last stage, begun as ``train.init_from`` says; nothing is compiled."""
    keys = "".join(f", {key}: {value}" for key, value in train.items())
    strategy = f"strategy: {{name: stylegan, {GAN}, fmap_base: {maps}, {options}}}\n"
    made = trainer(f"{strategy}train: {{batch_size: 8, lanes: 2, steps: 4{keys}}}\n", IMAGES, directory)
    made.notes = initialize(made)
    made.enter(made.strategy.schedule()[-1])
    made.clock.nimg = made.stage.starts_at
    return made


def trained(snapshot, seed):
    """``snapshot`` as if it had been trained: each weight, average and buffer is somewhere else."""
    draw = np.random.default_rng(seed)
    for component, tensors in snapshot.tensors.items():
        if not component.endswith(".optimizer"):
            for name, array in tensors.items():
                tensors[name] = array + draw.standard_normal(array.shape).astype(np.float32)
    return snapshot


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Checkpoints: ``base`` grew from 4x4 with ADA, ``tuned`` began with its weights, ``other`` comes from nowhere."""
    directory = tmp_path_factory.mktemp("runs")
    base = started(directory, "start_resolution: 4, augment: {name: ada, p: 0.7}")
    checkpoint.write(directory / "base", trained(base.snapshot(), 1))
    tuned = started(directory, "start_resolution: 8, augment: ada, freeze_d: 2", init_from=directory / "base")
    checkpoint.write(directory / "begun", tuned.snapshot())
    checkpoint.write(directory / "tuned", trained(tuned.snapshot(), 2))
    checkpoint.write(directory / "other", trained(started(directory, "start_resolution: 8", seed=5).snapshot(), 3))
    return directory, tuned


# ── Fine-tuning


def test_a_grown_model_is_tuned_at_its_last_stage_without_growing_again(runs):
    directory, tuned = runs
    before, after = checkpoint.load(directory / "base"), checkpoint.load(directory / "begun")
    assert [stage.name for stage in tuned.strategy.schedule()] == ["8"] and not tuned.notes[1:]
    for component in ("G.weights", "G.ema", "G.buffers", "D.weights"):
        assert after.tensors[component].keys() == before.tensors[component].keys()
        for name, array in before.tensors[component].items():
            np.testing.assert_array_equal(after.tensors[component][name], array)
    assert "G.w_avg.value" in after.tensors["G.buffers"]
    assert after.facts["clock"] == {"step": 0, "nimg": 0} and after.tensors["G.optimizer"]["updates"] == 0


def test_p_begins_anew_and_moves_faster(runs):
    directory, tuned = runs
    stored = checkpoint.load(directory / "begun").tensors["D.buffers"]["ada.state.value"]
    np.testing.assert_array_equal(stored, [0, 0, 0])
    [move] = [each.move for each in tuned.program.players["D"].buffers]
    assert move.step == pytest.approx(8 * 4 / 100_000)
    begun = started(directory, "start_resolution: 8, augment: ada")
    assert begun.program.players["D"].buffers[0].move.step == pytest.approx(8 * 4 / 500_000)


def test_a_run_without_augmentation_begins_with_the_weights_of_one_with(runs):
    directory, _ = runs
    assert not started(directory, "start_resolution: 8", init_from=directory / "base").notes[1:]


# ── Blending


@pytest.fixture(scope="module")
def blended(runs):
    directory, _ = runs

    def made(shares):
        out = directory / f"blended-{shares}"
        if not out.exists():
            ended = ganfleet("blend", f"{directory}/base", f"{directory}/tuned", "--out", str(out), "--share", shares)
            assert ended.code == 0, ended.output
        return checkpoint.load(out)

    return made


def test_with_no_share_it_is_the_base_bit_for_bit(runs, blended):
    base, made = checkpoint.load(runs[0] / "base"), blended("4:0,8:0")
    assert made.config == base.config
    for component, tensors in base.tensors.items():
        for name, array in tensors.items():
            np.testing.assert_array_equal(made.tensors[component][name], array)


def test_with_all_shares_1_the_synthesis_is_the_tuned_one_bit_for_bit(runs, blended):
    base, tuned = (checkpoint.load(runs[0] / name) for name in ("base", "tuned"))
    made = blended("4:1,8:1")
    for component in ("G.weights", "G.ema"):
        for name, array in made.tensors[component].items():
            origin = tuned if name.startswith("G.synthesis.") else base
            np.testing.assert_array_equal(array, origin.tensors[component][name])
    np.testing.assert_array_equal(
        made.tensors["G.buffers"]["G.w_avg.value"], base.tensors["G.buffers"]["G.w_avg.value"]
    )


def test_each_layer_is_mixed_as_its_resolution_says(runs, blended):
    base, tuned = (checkpoint.load(runs[0] / name).tensors["G.weights"] for name in ("base", "tuned"))
    made = blended("4:0,8:.25").tensors["G.weights"]
    coarse = ("layers.0.", "layers.1.", "to_rgb.convs.0.")
    fine = ("layers.2.", "layers.3.", "to_rgb.convs.1.")
    seen = set()
    for name in [name for name in made if name.startswith("G.synthesis.")]:
        [kind] = [each for each in coarse + fine if each in name]
        seen.add(kind)
        share = 0.25 if kind in fine else 0
        expected = base[name] * (1 - share) + tuned[name].astype(np.float64) * share
        np.testing.assert_allclose(made[name], expected, atol=1e-6)
    assert seen == {*coarse, *fine}


def test_a_sigmoid_rises_over_the_resolutions(runs):
    directory, _ = runs
    out = directory / "sigmoid"
    ended = ganfleet("blend", f"{directory}/base", f"{directory}/tuned", "--out", str(out), "--sigmoid", "8:.5")
    assert ended.code == 0, ended.output
    made = checkpoint.load(out).facts["blend"]["shares"]
    assert made == pytest.approx({"4": 1 / (1 + np.exp(2)), "8": 0.5})
    steep = engine.sigmoid(8, 1e-3)
    assert [steep(height) for height in (4, 8, 16)] == [0, 0.5, 1]


@pytest.mark.parametrize(
    "other, arguments, code, message",
    [
        ("other", ["--share", "4:0,8:1"], 85, "are not siblings: neither began with the weights of the other"),
        ("tuned", ["--share", "4:0"], 2, "--share leaves out 8: these networks have the resolutions 4, 8"),
        ("tuned", ["--share", "4:0,8:1,16:1"], 2, "--share has 16: these networks have the resolutions 4, 8"),
        ("tuned", ["--share", "4:0,8:2"], 2, "--share '8:2': write RESOLUTION:SHARE"),
        ("tuned", ["--share", "4:0,8:1,8:0"], 2, "--share has 8 twice"),
        ("tuned", ["--sigmoid", "8:0"], 2, "write MIDDLE:WIDTH, two numbers above 0"),
        ("tuned", [], 2, "give either --share or --sigmoid"),
        ("nothing", ["--share", "4:0,8:1"], 2, "nothing is no checkpoint"),
    ],
)
def test_what_cannot_be_blended_is_told(runs, other, arguments, code, message):
    directory, out = runs[0], runs[0] / "refused"
    error = one_error(
        ganfleet("blend", f"{directory}/base", f"{directory}/{other}", "--out", str(out), *arguments), code
    )
    assert message in error and not out.exists()


def test_a_checkpoint_that_is_there_is_not_written_over(runs):
    directory = runs[0]
    ended = ganfleet(
        "blend", f"{directory}/base", f"{directory}/tuned", "--out", f"{directory}/begun", "--share", "4:0,8:1"
    )
    assert "is there already: choose another name" in one_error(ended, 2)


def test_networks_of_other_shapes_are_no_siblings(runs, tmp_path):
    wider = started(tmp_path, "start_resolution: 8", maps=64, seed=9)
    checkpoint.write(tmp_path / "wider", wider.snapshot())
    with pytest.raises(CheckpointMismatch, match=r"G\.\w+/G\.\S+ has shape .* in the first and has shape"):
        engine.blend(runs[0] / "base", tmp_path / "wider", {4: 0, 8: 1})


@pytest.mark.slow
def test_a_blend_draws_images_like_any_other_checkpoint(runs, blended):
    directory = runs[0]
    blended("4:0,8:0")
    with library.load(directory / "base") as base, library.load(directory / "blended-4:0,8:0") as made:
        np.testing.assert_array_equal(made.sample([0, 1]), base.sample([0, 1]))
