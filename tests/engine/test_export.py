"""``ganfleet export``: other programs make the same images of its files, here onnxruntime and ``mindspore.load``."""

import sys
from functools import partial

import mindspore as ms
import numpy as np
import originals
import pth_files
import pytest
from commands import ganfleet, one_error
from mindspore import nn
from safetensors import safe_open
from stored import save_start_of

import ganfleet as library
from ganfleet.engine.sampler import seeded
from ganfleet.store import checkpoint, weights

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(*arguments):
    ended = ganfleet(*map(str, arguments))
    assert ended.code == 0, ended.output


def exported(model, form, out, *more):
    run("export", "--checkpoint", model, "--to", form, "--out", out, *more)
    return out


def session(path):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def by_position(found, names, arrays):
    return found.run(["image"], dict(zip(names, arrays, strict=True)))[0]


def loaded_by_mindspore(path):
    graph = nn.GraphCell(ms.load(str(path)))
    return lambda arrays: graph(*map(ms.Tensor, arrays)).asnumpy()


@pytest.mark.parametrize("form", ["onnx", pytest.param("mindir", marks=pytest.mark.slow)])
def test_stylegan_is_the_same_with_truncation_noise_and_classes(form, tmp_path):
    net = originals.Style(1, True, originals.CLASSES)
    run("import", originals.write_pkl(tmp_path / "a.pkl", net.net()), "--out", tmp_path / "model")
    path = exported(tmp_path / "model", form, tmp_path / f"g.{form}")
    names = ["z", *(f"noise{i}" for i in range(4)), "psi", "label"]
    if form == "onnx":
        found = session(path)
        assert [each.name for each in found.get_inputs()] == names
        draw = partial(by_position, found, names)
    else:
        draw = loaded_by_mindspore(path)
    rng = np.random.default_rng(0)
    for labels in ([1], [2, 0, 1]):
        z = rng.standard_normal((len(labels), originals.WIDTH)).astype(np.float32)
        noise = [rng.standard_normal((len(labels), 1, side, side)).astype(np.float32) for side in (4, 4, 8, 8)]
        made = draw([z, *noise, np.full((len(labels), 4), 0.6, np.float32), np.array(labels, np.int32)])
        np.testing.assert_allclose(made, net.images(z.astype(np.float64), noise, labels, psi=0.6), atol=1e-4)


def test_progan_is_the_same_for_a_fixed_number(tmp_path):
    net = originals.Pro(1, True, 0)
    run("import", originals.write_pkl(tmp_path / "a.pkl", net.net(), "tfutil"), "--out", tmp_path / "model")
    by_onnx = session(exported(tmp_path / "model", "onnx", tmp_path / "g.onnx", "--count", "3"))
    assert [each.shape for each in by_onnx.get_inputs()] == [[3, originals.WIDTH]]
    z = np.random.default_rng(0).standard_normal((3, originals.WIDTH)).astype(np.float32)
    expected = net.images(z.astype(np.float64), None, [])
    np.testing.assert_allclose(by_onnx.run(["image"], {"z": z})[0], expected, atol=1e-4)


OTHERS = {
    "cgan": ("name: cgan, resolution: 4, latent: 8, architecture: mlp, hidden: [16]", 1, 3, ["z", "label"]),
    "sngan": ("name: sngan, resolution: 16, latent: 8, architecture: resnet, ngf: 4, ndf: 4", 3, 0, ["z"]),
    "dcgan": ("name: dcgan, resolution: 8, latent: 8, ngf: 4, ndf: 4", 1, 0, ["z"]),
}


@pytest.mark.parametrize("strategy, channels, classes, names", OTHERS.values(), ids=OTHERS)
def test_other_gans_draw_the_same(strategy, channels, classes, names, tmp_path):
    yaml = f"strategy: {{{strategy}}}\ntrain: {{batch_size: 1, lanes: 1}}\n"
    with library.load(save_start_of(yaml, tmp_path / "run", channels, classes)) as loaded:
        by_onnx = session(exported(tmp_path / "run", "onnx", tmp_path / "g.onnx"))
        assert [each.name for each in by_onnx.get_inputs()] == names
        for seeds in ([3], [1, 2, 5, 4, 9]):
            labels = [i % classes if classes else None for i in range(len(seeds))]
            drawn = [seeded(loaded.strategy, loaded.clock, *each) for each in zip(seeds, labels, strict=True)]
            given = {name: np.concatenate([each[name] for each in drawn]) for name in names}
            expected = loaded.sample(seeds, labels if classes else None)
            np.testing.assert_allclose(by_onnx.run(["image"], given)[0], expected, atol=1e-4)


def test_nothing_is_written_that_makes_other_images(tmp_path, monkeypatch):
    strategy, *_ = OTHERS["cgan"]
    yaml = f"strategy: {{{strategy}}}\ntrain: {{batch_size: 1, lanes: 1}}\n"
    run = save_start_of(yaml, tmp_path / "run", 1, 3)
    monkeypatch.setattr(nn.GraphCell, "__call__", lambda *_: ms.ops.zeros((2, 1, 4, 4)))
    out = tmp_path / "g.onnx"
    error = one_error(ganfleet("export", "--checkpoint", str(run), "--to", "onnx", "--out", str(out)), code=70)
    assert "its images are off by" in error and not out.exists()


# ── Translations


@pytest.fixture(scope="module")
def translating(tmp_path_factory):
    """A model that translates, and the tensors of its generator from B to A in the original's layout."""
    folder = tmp_path_factory.mktemp("export")
    tensors = originals.residual_weights(1, 3, 4, 2)
    pth_files.write(folder / "b.pth", tensors)
    run("import", folder / "b.pth", "--as", "G_BA", "--out", folder / "model")
    return folder / "model", tensors


@pytest.mark.slow
def test_translations_are_the_same_for_any_size(translating, tmp_path):
    model, tensors = translating
    by_onnx = session(exported(model, "onnx", tmp_path / "g.onnx", "--graph", "B2A"))
    by_mindspore = loaded_by_mindspore(exported(model, "mindir", tmp_path / "g.mindir", "--graph", "B2A"))
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 8, 12), (3, 3, 16, 20)):
        images = rng.uniform(-1, 1, shape).astype(np.float32)
        expected = originals.residual_generator(tensors, images.astype(np.float64), blocks=2)
        np.testing.assert_allclose(by_onnx.run(["image"], {"image_b": images})[0], expected, atol=1e-4)
        np.testing.assert_allclose(by_mindspore([images]), expected, atol=1e-4)


def test_a_u_net_with_dropout_is_the_same_for_any_size(tmp_path):
    """It has one fixed draw of dropout, which is repeated over larger images."""
    yaml = "strategy: {name: pix2pix, resolution: 8, ngf: 2, ndf: 2}\ntrain: {batch_size: 1, lanes: 1}\n"
    model = save_start_of(yaml, tmp_path / "run", 3, scale=20)
    out = tmp_path / "g.onnx"
    ended = ganfleet("export", "--checkpoint", str(model), "--to", "onnx", "--out", str(out))
    assert ended.code == 0 and "height and width are multiples of 8" in ended.output
    by_onnx = session(out)
    with library.load(model) as loaded:
        for shape in ((1, 3, 8, 8), (2, 3, 16, 24)):
            images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
            expected = loaded.run(loaded.strategy.a_to_b, {"image_a": images})
            assert np.std(expected) > 0.1
            np.testing.assert_allclose(by_onnx.run(["image"], {"image_a": images})[0], expected, atol=1e-4)


def test_safetensors_has_the_weights_of_the_graph_alone(translating, tmp_path):
    model, tensors = translating
    path = exported(model, "safetensors", tmp_path / "g.safetensors", "--graph", "B2A")
    read = weights.read(path)
    assert read.keys() == {name for name in checkpoint.load(model).tensors["G.weights"] if name.startswith("G_BA.")}
    np.testing.assert_array_equal(read["G_BA.last.weight"], tensors["model.19.weight"])
    with safe_open(path, "np") as file:
        about = file.metadata()
    assert (about["strategy"], about["checkpoint"], about["weights"]) == ("cyclegan", str(model), "trained")


# ── What is refused


def refused(model, out, *more):
    error = one_error(ganfleet("export", "--checkpoint", str(model), "--out", str(out), *more), code=2)
    assert not out.exists()
    return error


def test_what_cannot_be_exported_is_refused_with_what_can(translating, tmp_path, monkeypatch):
    model, _ = translating
    out = tmp_path / "g.onnx"
    assert "has several graphs, choose one with --graph: it has A2B, B2A" in refused(model, out, "--to", "onnx")
    assert "has no graph 'C': it has A2B, B2A" in refused(model, out, "--to", "mindir", "--graph", "C")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'ganfleet[export]'" in refused(model, out, "--to", "onnx", "--graph", "A2B")


def test_a_loop_on_the_host_has_no_graph(tmp_path):
    yaml = "strategy: {name: 'loops:Looped', resolution: 4}\ntrain: {batch_size: 1, lanes: 1}\n"
    model = save_start_of(yaml, tmp_path / "run")
    error = refused(model, tmp_path / "g.onnx", "--to", "onnx", "--strategy", "loops:Looped")
    assert "it draws by a loop on the host" in error
