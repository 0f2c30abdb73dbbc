"""``ganfleet import``: files in the originals' layouts draw what the originals' networks draw, computed by NumPy.

No file of the authors' is here: ``originals.py`` writes them, from what the originals' code says of their layout.
"""

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import originals
import pth_files
import pytest
from commands import ganfleet, one_error
from in_memory import ArraySource, trainer

import ganfleet as library
from ganfleet.engine import resume
from ganfleet.engine.sampler import seeded
from ganfleet.store import checkpoint
from ganfleet.store.tflib import Network
from ganfleet.strategies.stylegan import original

SEEDS, LABELS = [3, 7, 11, 12], [2, 0, 1, 1]


FILES = {
    "stylegan with classes, fused": (originals.Style, True, originals.CLASSES, "D_basic", "dnnlib.tflib.network"),
    "stylegan": (originals.Style, "auto", 0, "D_basic", "dnnlib.tflib.network"),
    "progan, fused": (originals.Pro, True, 0, "D_paper", "tfutil"),
    "progan with classes": (originals.Pro, False, originals.CLASSES, None, "tfutil"),
}


@pytest.fixture(scope="module", params=FILES.values(), ids=FILES)
def imported(request, tmp_path_factory):
    """G, D (None where the file has none that fits), G's average, and the checkpoint."""
    kind, fused, classes, judge, module = request.param
    folder = tmp_path_factory.mktemp("originals")
    g, average = kind(10, fused, classes), kind(20, fused, classes)
    d = originals.Judge(30, judge or "D_paper", fused, classes)
    originals.write_pkl(folder / "a.pkl", (g.net(), d.net(), average.net()), module)
    ended = ganfleet("import", str(folder / "a.pkl"), "--out", str(folder / "made"))
    assert ended.code == 0, ended.output
    assert ("discriminator is left out" in ended.output) == (judge is None)
    with library.load(folder / "made") as loaded:
        yield g, d if judge else None, average, loaded


def inputs_of(loaded, labels):
    drawn = [seeded(loaded.strategy, loaded.clock, seed, label) for seed, label in zip(SEEDS, labels, strict=True)]
    z = np.concatenate([each["z"] for each in drawn]).astype(np.float64)
    noise = [np.concatenate([each[f"noise{i}"] for each in drawn]) for i in range(4) if "noise0" in drawn[0]]
    return z, noise


def test_images_and_scores_are_the_originals(imported):
    g, d, average, loaded = imported
    labels = LABELS if g.classes else [None] * 4
    z, noise = inputs_of(loaded, labels)
    for net, ema in ((average, True), (g, False)):
        drawn = loaded.sample(SEEDS, LABELS if g.classes else None, ema=ema)
        np.testing.assert_allclose(drawn, net.images(z, noise, LABELS), atol=1e-4)
    if isinstance(g, originals.Style):
        drawn = loaded.sample(SEEDS, LABELS if g.classes else None, truncation=0.4)
        np.testing.assert_allclose(drawn, average.images(z, noise, LABELS, psi=0.4), atol=1e-4)
    if d:
        label = ms.Tensor(np.array(LABELS, np.int32)) if g.classes else None
        scores = loaded.networks["D"](ms.Tensor(drawn), ms.Tensor(np.float32(1)), label)
        np.testing.assert_allclose(scores.asnumpy(), d.scores(drawn.astype(np.float64), LABELS), atol=1e-4)


def test_a_run_begins_with_what_was_imported(imported, tmp_path):
    """Nothing is left out, and nothing but the optimizers is new."""
    *_, loaded = imported
    config = loaded.config.strategy.model_dump()
    chosen = ("variant", "resolution", "start_resolution", "latent", "mapping_layers", "fmap_base", "fmap_max")
    options = ", ".join(f"{name}: {config[name]}" for name in (*chosen, "mbstd_group", "conditional"))
    yaml = f"strategy: {{name: stylegan, {options}}}\ntrain: {{batch_size: 4, lanes: 1, init_from: {loaded.path}}}\n"
    source = ArraySource("image", np.zeros((4, 1)), originals.CHANNELS)
    source.classes = loaded.strategy.image.classes
    made = trainer(yaml, source, tmp_path)
    made.loader.close()
    [line] = resume.initialize(made)
    assert line == f"weights from {loaded.path}"
    before, now = checkpoint.load(loaded.path).tensors, made.snapshot().tensors
    for component in ("G.weights", "G.ema", "G.buffers", "D.weights"):
        assert now[component].keys() == before[component].keys()
        for name, array in now[component].items():
            np.testing.assert_array_equal(array, before[component][name])


def test_stylegan_fuses_from_128_pixels_on():
    """As its code chooses where it is told "auto", so that only these kernels are turned around."""
    read = original.Read("", Network("G_style", {"resolution": 256}, {}))
    kernel = np.arange(9.0).reshape(3, 3, 1, 1)
    table = original.TABLES["G_style"](read)
    first = {h: table[f"synthesis/{h}x{h}/Conv0_up/weight"][1](kernel)[0, 0, 0, 0] for h in (8, 64, 128, 256)}
    assert first == {8: 0, 64: 0, 128: 8, 256: 8}


def stylegan(**changed):
    net = originals.Style(1, "auto", 0).net()
    net.arguments = net.arguments | changed
    return net


def growing():
    net = stylegan()
    net.variables = net.variables | {"lod": np.float32(1.5)}
    return net


def with_more():
    net = stylegan()
    net.components["synthesis"].variables["8x8/Attention/weight"] = np.zeros(1, np.float32)
    return net


def not_finite():
    net = stylegan()
    net.components["mapping"].variables["Dense0/bias"] = np.full(originals.WIDTH, np.nan, np.float32)
    return net


REFUSED = {
    "blur": (lambda: stylegan(blur_filter=None), r"G_style has blur_filter=None, but it must be \[1, 2, 1\]"),
    "activation": (lambda: stylegan(nonlinearity="relu"), "nonlinearity='relu'"),
    "widths": (lambda: stylegan(mapping_fmaps=16), "latent_size=8, dlatent_size=8, mapping_fmaps=16"),
    "decay": (lambda: stylegan(fmap_decay=0.5), "fmap_decay=0.5"),
    "shapes": (lambda: stylegan(fmap_max=4, fmap_base=16), "would have the shape .* another architecture"),
    "growing": (growing, r"saved while it grew \(lod 1.5\)"),
    "more": (with_more, "has synthesis/8x8/Attention/weight, which networks here have not"),
    "less": (lambda: stylegan(mapping_layers=3), "has no mapping/Dense2/weight"),
    "infinite": (not_finite, "not finite"),
    "others": (lambda: originals.Net("G_main", {}, {}), r"no strategy knows these networks \(G_main"),
    "no network": (lambda: {"some": "dict"}, "a network is expected"),
}


@pytest.mark.parametrize("net, told", REFUSED.values(), ids=REFUSED)
def test_what_networks_here_cannot_be_is_refused_with_the_difference(net, told, tmp_path):
    path = originals.write_pkl(tmp_path / "a.pkl", net())
    ended = ganfleet("import", str(path), "--out", str(tmp_path / "made"))
    error = one_error(ended, code=2)
    assert str(path) in error
    assert re.search(told, error), error
    assert not (tmp_path / "made").exists()


# ── pytorch-CycleGAN-and-pix2pix


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """Files of two generators, in PyTorch's old and its new form, and their tensors by name."""
    folder = tmp_path_factory.mktemp("generators")
    a, b = originals.residual_weights(1, 3, 4, 2), originals.residual_weights(2, 3, 4, 2, dropout=True)
    old = a | {"model.2.running_mean": np.zeros(4, np.float32), "model.2.num_batches_tracked": np.array(3, np.int64)}
    pth_files.write(folder / "latest_net_G_A.pth", {f"module.module.{name}": x for name, x in old.items()}, legacy=True)
    pth_files.write(folder / "latest_net_G_B.pth", b)
    return folder, a, b


def test_translations_are_the_originals(generators, tmp_path):
    folder, a, b = generators
    files = [str(folder / f"latest_net_G_{each}.pth") for each in "AB"]
    ended = ganfleet("import", *files, "--out", str(tmp_path / "made"))
    assert ended.code == 0, ended.output
    image = np.random.default_rng(0).uniform(-1, 1, (3, 12, 8)).astype(np.float32)
    with library.load(tmp_path / "made") as loaded:
        for direction, tensors in (("A2B", a), ("B2A", b)):
            expected = originals.residual_generator(tensors, image[None].astype(np.float64), blocks=2)
            np.testing.assert_allclose(loaded.translate(image, direction), expected[0], atol=1e-4)


def test_a_file_is_the_network_that_as_says(generators, tmp_path):
    folder, a, _ = generators
    ended = ganfleet("import", str(folder / "latest_net_G_A.pth"), "--as", "G_BA", "--out", str(tmp_path / "made"))
    assert ended.code == 0 and "G_AB is in no file" in ended.output
    tensors = checkpoint.load(Path(tmp_path / "made")).tensors["G.weights"]
    np.testing.assert_array_equal(tensors["G_BA.first.weight"], a["model.1.weight"])
    assert not np.array_equal(tensors["G_AB.first.weight"], a["model.1.weight"])


def refused_files(folder):
    a = originals.residual_weights(1, 3, 4, 2)
    normed = a | {"model.2.weight": np.ones(4, np.float32), "model.2.bias": np.ones(4, np.float32)}
    unbiased = {name: array for name, array in a.items() if name != "model.4.bias"}
    unet = {"model.model.0.weight": np.ones((4, 3, 4, 4), np.float32)}
    pairs = {"a": a, "normed": normed, "unbiased": unbiased, "unet": unet}
    pairs["wide"] = originals.residual_weights(1, 3, 8, 2)
    return {name: str(pth_files.write(folder / f"{name}.pth", tensors)) for name, tensors in pairs.items()}


def test_generators_that_are_others_are_refused_with_the_difference(tmp_path):
    files = refused_files(tmp_path)

    def error(*arguments):
        return one_error(ganfleet("import", *arguments, "--out", str(tmp_path / "made")), code=2)

    assert "has model.2.weight, which a generator here has not" in error(files["normed"])
    assert "has no model.4.bias" in error(files["unbiased"])
    assert "no strategy knows these networks (model.model.0.weight" in error(files["unet"])
    assert "of different sizes" in error(files["a"], files["wide"])
    assert "one generator too many" in error(files["a"], files["a"], files["a"])
    assert "one generator too many" in error(files["a"], "--as", "G_XY")
    assert "--as is given 1 times for 2 files" in error(files["a"], files["wide"], "--as", "G_AB")
    (tmp_path / "made").mkdir()
    assert "is there already" in error(files["a"])


def test_a_file_of_nvlabs_stands_alone(tmp_path):
    path = str(originals.write_pkl(tmp_path / "a.pkl", stylegan()))
    out = ("--out", str(tmp_path / "made"))
    assert "leave" in one_error(ganfleet("import", path, path, *out), code=2)
    assert "leave --as out" in one_error(ganfleet("import", path, "--as", "G", *out), code=2)
