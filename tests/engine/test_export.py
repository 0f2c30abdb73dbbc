"""``ganfleet export``: other programs make the same images of its files, here onnxruntime and ``mindspore.load``."""

import sys

import mindspore as ms
import numpy as np
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

STYLE = (
    "name: stylegan, resolution: 8, start_resolution: 8, latent: 8, mapping_layers: 2, fmap_base: 16, mbstd_group: 1"
)
MODELS = {  # strategy, channels, classes, the graph's inputs
    "stylegan": (f"{STYLE}, conditional: true", 3, 3, "z noise0 noise1 noise2 noise3 psi label"),
    "progan": (f"{STYLE.replace(', mapping_layers: 2', '')}, variant: progan", 3, 0, "z"),
    "dcgan": ("name: dcgan, resolution: 8, latent: 8, ngf: 4, ndf: 4", 1, 0, "z"),
    "cgan": ("name: cgan, resolution: 4, latent: 8, architecture: mlp, hidden: [16]", 1, 3, "z label"),
    "sngan": ("name: sngan, resolution: 16, latent: 8, architecture: resnet, ngf: 4, ndf: 4", 3, 0, "z"),
}
CYCLE = "name: cyclegan, resolution: 24, ngf: 4, ndf: 4, blocks: 2"


def saved(folder, strategy, channels, classes=0):
    yaml = f"strategy: {{{strategy}}}\ntrain: {{batch_size: 1, lanes: 1}}\n"
    run = save_start_of(yaml, folder, channels, classes)
    [path] = checkpoint.within(run)
    snapshot = checkpoint.load(path)
    rng = np.random.default_rng(0)
    for component in ("G.weights", "G.ema", "G.buffers"):  # at the start biases, strengths and the mean w are 0
        for name, array in snapshot.tensors.get(component, {}).items():
            if array.ndim == 1:
                snapshot.tensors[component][name] = array + 0.3 * rng.standard_normal(array.shape).astype(np.float32)
    checkpoint.save(run / "checkpoints", snapshot, 0, keep=1)
    return run


@pytest.fixture(scope="module", params=MODELS.items(), ids=MODELS)
def model(request, tmp_path_factory):
    _, (strategy, channels, classes, inputs) = request.param
    run = saved(tmp_path_factory.mktemp("export") / "run", strategy, channels, classes)
    with library.load(run) as loaded:
        yield loaded, inputs.split(), classes


def exported(loaded, form, out, *more):
    ended = ganfleet("export", "--checkpoint", str(loaded.path), "--to", form, "--out", str(out), *more)
    assert ended.code == 0, ended.output
    return out


def session(path):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def given(loaded, names, seeds, classes, psi=1.0):
    """What the graph takes for images of ``seeds``, which have the classes 0, 1, 2, 0 …"""
    labels = [i % classes if classes else None for i in range(len(seeds))]
    drawn = [seeded(loaded.strategy, loaded.clock, seed, label) for seed, label in zip(seeds, labels, strict=True)]
    arrays = {name: np.concatenate([each[name] for each in drawn]) for name in names}
    if "psi" in arrays:
        arrays["psi"][:, :3] = psi
    return arrays, labels if classes else None


def options(names, psi):
    return {"truncation": psi, "truncation_layers": 3} if "psi" in names else {}


def test_onnx_and_mindir_give_the_same_images_for_any_number(model, tmp_path):
    loaded, names, classes = model
    run = session(exported(loaded, "onnx", tmp_path / "g.onnx"))
    assert [each.name for each in run.get_inputs()] == names
    graph = None
    if "psi" in names:  # for the others, MindIR is the file that ONNX was made of
        graph = nn.GraphCell(ms.load(str(exported(loaded, "mindir", tmp_path / "g.mindir"))))
    for seeds in ([3], [1, 2, 5, 4, 9]):
        arrays, labels = given(loaded, names, seeds, classes, psi=0.6)
        expected = loaded.sample(seeds, labels, **options(names, 0.6))
        np.testing.assert_allclose(run.run(None, arrays)[0], expected, atol=1e-4)
        if graph:
            images = graph(*(ms.Tensor(arrays[name]) for name in names))
            np.testing.assert_allclose(images.asnumpy(), expected, atol=1e-4)


@pytest.fixture(scope="module")
def translating(tmp_path_factory):
    run = saved(tmp_path_factory.mktemp("export") / "run", CYCLE, 3)
    with library.load(run) as loaded:
        yield loaded


def test_safetensors_has_the_weights_of_the_graph_alone(translating, tmp_path):
    path = exported(translating, "safetensors", tmp_path / "g.safetensors", "--graph", "A2B")
    stored = checkpoint.load(translating.checkpoint).tensors["G.weights"]
    read = weights.read(path)
    assert read.keys() == {name for name in stored if name.startswith("G_AB.")}
    assert all(np.array_equal(array, stored[name]) for name, array in read.items())
    with safe_open(path, "np") as file:
        about = file.metadata()
    assert about["strategy"] == "cyclegan" and about["checkpoint"] == str(translating.checkpoint)


def test_translations_are_the_same_for_any_size(translating, tmp_path):
    run = session(exported(translating, "onnx", tmp_path / "g.onnx", "--graph", "B2A"))
    graph = nn.GraphCell(ms.load(str(exported(translating, "mindir", tmp_path / "g.mindir", "--graph", "B2A"))))
    rng = np.random.default_rng(0)
    for n, height, width in ((1, 8, 12), (3, 16, 20)):
        images = rng.uniform(-1, 1, (n, 3, height, width)).astype(np.float32)
        expected = np.stack([translating.translate(each, "B2A") for each in images])
        [made] = run.run(None, {"image_b": images})
        np.testing.assert_allclose(made, expected, atol=1e-4)
        np.testing.assert_allclose(graph(ms.Tensor(images)).asnumpy(), expected, atol=1e-4)


def test_a_number_of_images_may_be_fixed(translating, tmp_path):
    path = exported(translating, "onnx", tmp_path / "g.onnx", "--graph", "A2B", "--count", "2")
    [given] = session(path).get_inputs()
    assert given.shape == [2, 3, 24, 24]


def refused(loaded, out, *more):
    error = one_error(ganfleet("export", "--checkpoint", str(loaded.path), "--out", str(out), *more), code=2)
    assert not out.exists()
    return error


def test_what_cannot_be_exported_is_refused_with_what_can(translating, tmp_path, monkeypatch):
    out = tmp_path / "g.onnx"
    assert "has several graphs, choose one with --graph: it has A2B, B2A" in refused(translating, out, "--to", "onnx")
    assert "has no graph 'C': it has A2B, B2A" in refused(translating, out, "--to", "mindir", "--graph", "C")
    monkeypatch.setitem(sys.modules, "onnx", None)
    error = refused(translating, out, "--to", "onnx", "--graph", "A2B")
    assert "pip install 'ganfleet[export]'" in error


def test_a_loop_on_the_host_has_no_graph(tmp_path):
    yaml = "strategy: {name: 'loops:Looped', resolution: 4}\ntrain: {batch_size: 1, lanes: 1}\n"
    with library.load(save_start_of(yaml, tmp_path / "run"), strategy="loops:Looped") as loaded:
        error = refused(loaded, tmp_path / "g.onnx", "--to", "onnx", "--strategy", "loops:Looped")
    assert "it draws by a loop on the host" in error
