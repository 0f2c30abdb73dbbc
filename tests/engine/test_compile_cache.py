"""A graph from the disk is the graph that would have been compiled: same bits, and never another one's."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from in_memory import ArraySource, trainer
from mindspore import Parameter, Tensor, ops

import ganfleet
from ganfleet import strategies
from ganfleet.engine import compile_cache
from ganfleet.engine.compile_cache import Graph
from ganfleet.engine.fingerprint import Unnameable, fingerprint
from ganfleet.nn import forms
from ganfleet.store import checkpoint

ms.set_context(mode=ms.GRAPH_MODE)
X = np.arange(6, dtype=np.float32).reshape(2, 3)
FACTOR = 2.0
TABLE = SimpleNamespace(factor=2.0, taps=np.float32([1, 2, 3]))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "graphs"))
    compile_cache.counts.clear()
    compile_cache.refusals.clear()
    return tmp_path / "graphs"


def unchanged(x):
    return x


class Affine(Graph):
    """function(x · w) + k"""

    def __init__(self, k=1.0, function=unchanged, w=1.0):
        super().__init__()
        self.k, self.function = k, function
        self.w = Parameter(Tensor(np.full(3, w, np.float32)), name="w")

    @ms.jit
    def construct(self, x):
        return self.function(x * self.w) + self.k

    def of(self, x=X):
        return self(Tensor(x)).asnumpy()


def what_was_done():
    """(graphs from the disk, graphs that were compiled) since this was called last."""
    done = compile_cache.counts["loaded"], compile_cache.counts["compiled"]
    compile_cache.counts.clear()
    return done


# ── Graphs


def test_a_graph_is_compiled_once_and_then_loaded_with_the_weights_of_whoever_loads_it():
    np.testing.assert_array_equal(Affine().of(), X + 1)
    assert what_was_done() == (0, 1)
    again = Affine(w=5.0)
    np.testing.assert_array_equal(again.of(), 5 * X + 1)
    ops.assign(again.w, Tensor(np.full(3, 7, np.float32)))
    np.testing.assert_array_equal(again.of(), 7 * X + 1)
    assert what_was_done() == (1, 0)


def test_another_frozen_number_and_another_shape_are_other_graphs_in_whatever_order_they_come():
    results = {(k, n): Affine(k).of(X[:n]) for k in (1.0, 2.0) for n in (1, 2)}
    assert what_was_done() == (0, 4)
    for (k, n), result in reversed(results.items()):
        np.testing.assert_array_equal(Affine(k).of(X[:n]), result)
        np.testing.assert_array_equal(result, X[:n] + np.float32(k))
    assert what_was_done() == (4, 0)
    np.testing.assert_array_equal(Affine(3.0).of(), X + 3)
    np.testing.assert_array_equal(Affine(1.0).of(), X + 1)  # found, although the one before was not
    assert what_was_done() == (1, 1)


def test_a_rank_of_msrun_loads_what_a_process_alone_has_compiled(monkeypatch):
    Affine()(Tensor(X))
    msrun = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2", "MS_NODE_ID": "1", "MS_SCHED_PORT": "8118"}
    for name, value in (msrun | {"OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    Affine()(Tensor(X))
    assert (compile_cache.counts["compiled"], compile_cache.counts["loaded"]) == (1, 1)


def test_a_graph_that_writes_parameters_writes_those_of_whoever_loads_it():
    class Counting(Graph):
        def __init__(self):
            super().__init__()
            self.count = Parameter(Tensor(np.zeros(3, np.float32)), name="count", requires_grad=False)

        @ms.jit
        def construct(self, x):
            ops.assign(self.count, self.count + x)
            return self.count * 1

    first, second = Counting(), Counting()
    for graph in (first, second, second):
        graph(Tensor(X[1]))
    assert what_was_done() == (1, 1)
    np.testing.assert_array_equal(first.count.asnumpy(), X[1])
    np.testing.assert_array_equal(second.count.asnumpy(), 2 * X[1])


def smoothed(x):
    return forms.conv2d(x.reshape((1, 1, 2, 3)), ops.ones((1, 1, 3, 3), ms.float32), padding=1).reshape((2, 3))


def test_operators_with_several_forms_are_stored_and_each_form_is_a_graph_of_its_own():
    best = forms.form()
    results = {}
    for form in dict.fromkeys((best, forms.STOCK)):
        with forms.using(form):
            results[form] = Affine(function=smoothed).of()
            assert what_was_done() == (0, 1)
    for form, result in results.items():
        with forms.using(form):
            np.testing.assert_array_equal(Affine(function=smoothed).of(), result)
            assert what_was_done() == (1, 0)
    assert compile_cache.refusals == []


STRATEGIES = {
    "wgan_gp": "latent: 4, ngf: 2, ndf: 2, critic_steps: 1",  # second derivatives
    "dcgan": "latent: 4, ngf: 2, ndf: 2, ema_kimg: 0.1",  # buffers and averages
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["wgan_gp", "dcgan"])
def test_training_and_samples_have_the_same_bits_whether_graphs_are_compiled_or_loaded(strategy, tmp_path, monkeypatch):
    yaml = f"strategy: {{name: {strategy}, resolution: 8, {STRATEGIES[strategy]}}}\n"
    yaml += "train: {steps: 2, batch_size: 4, lanes: 2, seed: 5}\n"
    pixels = np.random.default_rng(0).integers(256, size=(16, 1, 8, 8), dtype=np.uint8)
    results, done = [], []
    for setting in ("compiled", "loaded", "0"):
        if setting == "0":
            monkeypatch.setenv(compile_cache.VARIABLE, setting)
        trained = trainer(yaml, ArraySource("image", pixels), tmp_path)
        trained.run()
        results.append((checkpoint.digest(trained.snapshot()), trained.sample([0, 1]).tobytes()))
        done.append(what_was_done())
    graphs = done[0][1]
    assert graphs >= 5 and compile_cache.refusals == []
    assert done[0] == (0, graphs) and done[1][0] >= graphs - 1 and done[2] == (0, 0)
    assert results[0] == results[1] == results[2]


def test_a_checkpoint_is_loaded_with_the_graph_of_its_runs_grids(tmp_path):
    """So the first picture after a training waits for no compiler."""
    pixels = np.random.default_rng(0).integers(256, size=(16, 3, 8, 8), dtype=np.uint8)
    yaml = "strategy: {name: gan, resolution: 8, hidden: [8], augment: diffaugment}\ntrain: {batch_size: 4, lanes: 2}\n"
    trained = trainer(yaml, ArraySource("image", pixels, channels=3), tmp_path)
    images = trained.sample([0, 1])
    assert what_was_done() == (0, 1)
    checkpoint.save(tmp_path / "run" / "checkpoints", trained.snapshot(), 1, keep=1)
    with ganfleet.load(tmp_path / "run") as loaded:
        np.testing.assert_array_equal(loaded.sample([0, 1]), images)
        assert what_was_done()[0] == 1


# ── What can be frozen


def global_number(x):
    return x * FACTOR


def attribute_of_a_global(x):
    return x * TABLE.factor


def array_of_a_global(x):
    return x * Tensor(TABLE.taps)


def default(x, factor=2.0):
    return x * factor


def closed_over(factor):
    def times(x):
        return x * factor

    return times


def set_train(graph):
    graph.set_train(True)


CHANGES = {
    "an attribute": lambda: Affine(2.0),
    "the type of an attribute": lambda: Affine(1),
    "its sign": lambda: Affine(-0.0),
    "the function": lambda: Affine(function=ops.relu),
    "what is closed over": lambda: Affine(function=closed_over(3.0)),
    "what another closes over": lambda: Affine(function=closed_over(2.0)),
    "an argument bound": lambda: Affine(function=partial(default, factor=3.0)),
    "a layer inside": lambda: Affine(function=ms.nn.LeakyReLU(0.1)),
    "a number of a layer inside": lambda: Affine(function=ms.nn.LeakyReLU(0.2)),
}


def test_every_value_that_a_graph_freezes_gives_it_another_name(monkeypatch):
    names = {what: fingerprint(make())[0] for what, make in CHANGES.items()}
    names["nothing"] = fingerprint(Affine())[0]
    trained = Affine()
    trained.set_train(True)
    names["training"] = fingerprint(trained)[0]
    for function in (global_number, attribute_of_a_global, array_of_a_global, default):
        names[function.__name__] = fingerprint(Affine(function=function))[0]
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    names["global changed"] = fingerprint(Affine(function=global_number))[0]
    monkeypatch.setattr(TABLE, "factor", 3.0)
    names["attribute of a global changed"] = fingerprint(Affine(function=attribute_of_a_global))[0]
    monkeypatch.setattr(TABLE, "taps", np.float32([1, 2, 4]))
    names["array of a global changed"] = fingerprint(Affine(function=array_of_a_global))[0]
    monkeypatch.setattr(default, "__defaults__", (3.0,))
    names["default changed"] = fingerprint(Affine(function=default))[0]
    frozen = Affine()
    frozen.w.requires_grad = False
    names["not trained"] = fingerprint(frozen)[0]
    frozen.w.name = "v"
    names["parameter renamed"] = fingerprint(frozen)[0]
    assert len(set(names.values())) == len(names)


def test_values_of_weights_and_compiling_do_not_change_a_name():
    graph = Affine()
    before = fingerprint(graph)
    graph.of()
    assert fingerprint(graph)[0] == before[0] == fingerprint(Affine(w=3.0))[0]


def test_the_text_of_every_module_in_use_is_part_of_the_name(tmp_path, monkeypatch):
    text = "def twice(x):\n    return x * {factor}\n"
    names = []
    for factor in (2, 3, 2):
        (tmp_path / "helping.py").write_text(text.format(factor=factor))
        (tmp_path / "helped.py").write_text("import helping\n\ndef four_times(x):\n    return helping.twice(x) * 2\n")
        monkeypatch.syspath_prepend(tmp_path)
        for module in ("helping", "helped"):
            sys.modules.pop(module, None)
        import helped

        names.append(fingerprint(Affine(function=helped.four_times))[0])
    assert names[0] == names[2] != names[1]


def from_a_file(x):
    with open("factor") as file:
        return x * float(file.read())


def from_the_environment(x):
    return x * float(os.environ["FACTOR"])


def by_chance(x):
    return x * np.random.rand()


@pytest.mark.parametrize("function", [from_a_file, from_the_environment, by_chance, partial(default, threading.Lock())])
def test_a_graph_that_may_freeze_what_nobody_can_see_has_no_name(function):
    with pytest.raises(Unnameable):
        fingerprint(Affine(function=function))


@pytest.mark.parametrize("strategy", strategies.names())
def test_nothing_in_a_strategy_of_ganfleet_keeps_its_graphs_from_being_named(strategy):
    """Or every start and every rank would compile them again."""
    fingerprint(strategies.find(strategy))


def test_what_cannot_be_named_or_stored_is_compiled_each_time(folder):
    class Words(Affine):
        @ms.jit
        def construct(self, x):
            return x * self.w, "a word"

    for _ in range(2):
        assert Words()(Tensor(X))[1] == "a word"
        lock = Affine()
        lock.lock = threading.Lock()
        np.testing.assert_array_equal(lock.of(), X + 1)
    assert what_was_done() == (0, 4)
    assert not folder.exists()
    reasons = " ".join(compile_cache.refusals)
    assert "Words: it returns something else than tensors" in reasons and "a _thread.lock is frozen" in reasons


# ── Files


def test_a_damaged_file_is_not_used(folder):
    Affine().of()
    [path] = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    for damaged in (bytes(data), path.read_bytes()[:100], b""):
        path.write_bytes(damaged)
        what_was_done()
        np.testing.assert_array_equal(Affine().of(), X + 1)
        assert what_was_done() == (0, 1)
    np.testing.assert_array_equal(Affine().of(), X + 1)
    assert what_was_done() == (1, 0)


def test_what_was_not_used_for_longest_makes_room(folder, monkeypatch):
    Affine(1.0).of()
    [first] = folder.iterdir()
    Affine(2.0).of()
    [second] = set(folder.iterdir()) - {first}
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    Affine(1.0).of()  # used just now
    monkeypatch.setattr(compile_cache, "LIMIT", int(2.5 * first.stat().st_size))
    Affine(3.0).of()
    assert first.exists() and not second.exists() and len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(folder):
    folder.write_text("a file")
    np.testing.assert_array_equal(Affine().of(), X + 1)
    np.testing.assert_array_equal(Affine().of(), X + 1)
    assert what_was_done() == (0, 2)


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
import ganfleet
from engine.test_compile_cache import X, Affine, compile_cache
for k in sys.argv[1:]:
    assert (Affine(float(k)).of() == X + float(k)).all()
print(compile_cache.counts["loaded"])
"""


@pytest.mark.slow
def test_processes_that_compile_at_once_and_in_other_orders_get_their_own_graphs(folder):
    code = PROCESS.format(tests=str(Path(__file__).parents[1]))

    def started(*numbers):
        return subprocess.Popen([sys.executable, "-c", code, *numbers], stdout=subprocess.PIPE, text=True)

    at_once = [started("1", "2"), started("2", "1")]
    for process in at_once:
        process.communicate()
        assert process.returncode == 0
    later = started("2", "3", "1")
    assert later.communicate()[0] == "2\n" and later.returncode == 0
