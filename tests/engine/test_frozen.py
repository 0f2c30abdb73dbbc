"""Networks frozen out of runs: which weights are taken, and which runs cannot be what a run needs."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_captions import TEXT

from ganfleet.engine.program import Program
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.store import checkpoint
from ganfleet.store.snapshot import Snapshot
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.unclip.decoder import Unclip
from ganfleet.strategies.unclip.prior import UnclipPrior
from ganfleet.strategies.unclip.towers import Towers

TOWERS = {"resolution": 4, "tower": (4,), "text_width": 4, "text_heads": 2, "embedding": 5}
PRIOR = TOWERS | {"encoder": "runs/towers", "prior_width": 8, "prior_depth": 1, "prior_heads": 2, "steps": 2}
DECODER = PRIOR | {"prior": "runs/prior", "width": 4, "multipliers": (1,), "blocks": 1, "attention": ()}
DECODER |= {"head_width": 4, "timesteps": 20, "prior_steps": 2, "learned_variance": False}


def made(strategy, options, text=TEXT, **how):
    strategy = strategy(strategy.Options(**options), ImageSpec(1, 0, text), batch_size=4)
    return Program(strategy, strategy.schedule()[0], 3, **how)


def keep(program, name, step, text=TEXT):
    """A checkpoint of a run; each step has other weights."""
    [player] = program.players
    program.inherit({f"{player}.weights": {n: a + step for n, a in program.tensors()[f"{player}.weights"].items()}})
    options = program.strategy.options.model_dump(mode="json")
    facts = {"source": {"text": text.__dict__}, "frozen": program.frozen, "clock": {"step": step, "nimg": step}}
    snapshot = Snapshot(program.tensors() | {"lanes": {}}, facts, {"strategy": options})
    return checkpoint.save(Path("runs") / name / "checkpoints", snapshot, step, keep=3)


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """The runs of two towers and of a prior behind them, in the working directory; and a decoder's program."""
    monkeypatch.chdir(tmp_path)
    keep(made(Towers, TOWERS), "towers", 1)
    keep(made(UnclipPrior, PRIOR), "prior", 1)
    program = made(Unclip, DECODER)
    program.check_frozen()
    return program


def trained_on():
    """Twice more; one of the checkpoints since then is damaged, which nobody needs."""
    keep(made(Towers, TOWERS), "towers", 2)
    keep(made(Towers, TOWERS), "towers", 3)
    (Path("runs/towers/checkpoints/step-00000002") / "state.json").write_text("{")


def test_towers_that_were_trained_on_give_those_of_then_to_what_knows_them(chain):
    tensors, frozen = chain.tensors(), chain.frozen
    trained_on()
    again = made(Unclip, DECODER)
    assert again.frozen["image_tower"] != frozen["image_tower"]
    again.load(tensors, frozen)
    assert again.frozen == frozen
    for name in ("image_tower", "text_tower"):
        for a, b in zip(vars(chain.nets)[name].get_parameters(), vars(again.nets)[name].get_parameters(), strict=True):
            np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def test_towers_of_then_that_are_gone_are_named(chain):
    tensors, frozen = chain.tensors(), chain.frozen
    trained_on()
    shutil.rmtree("runs/towers/checkpoints/step-00000001")
    with pytest.raises(CheckpointMismatch, match=r"'image_tower' \(runs/towers\) is another than when"):
        made(Unclip, DECODER).load(tensors, frozen)


def test_a_prior_behind_other_towers_is_refused_and_the_right_ones_are_named(chain):
    trained_on()
    with pytest.raises(ConfigError) as error:
        made(Unclip, DECODER).check_frozen()
    assert str(error.value) == (
        "strategy.prior: runs/prior was trained behind another image_tower than strategy.encoder gives (runs/towers): "
        "set strategy.encoder to runs/towers/checkpoints/step-00000001"
    )
    made(Unclip, DECODER | {"encoder": "runs/towers/checkpoints/step-00000001"}).check_frozen()
    shutil.rmtree("runs/towers/checkpoints/step-00000001")
    with pytest.raises(ConfigError, match="train it anew behind this one"):
        made(Unclip, DECODER).check_frozen()


def test_towers_of_other_captions_are_refused(chain):
    other = replace(TEXT, encoder="elsewhere", sha256="1" * 64)
    with pytest.raises(ConfigError, match=r"strategy.encoder: runs/towers was trained on .* nowhere, .* is elsewhere"):
        made(UnclipPrior, PRIOR, other).check_frozen()


@pytest.mark.parametrize(
    ("strategy", "options", "told"),
    [
        (
            UnclipPrior,
            {"resolution": 8},
            "runs/towers was made with strategy.resolution 4, and .* is 8",
        ),
        (
            UnclipPrior,
            {"tower": (2, 4)},
            r"made with strategy.tower \[4\], and strategy.tower is \[2, 4\]: give the same",
        ),
        (Unclip, {"prior_width": 4}, "strategy.prior: runs/prior was made with strategy.prior_width 8"),
        (
            Unclip,
            {"prior_timesteps": 10},
            "made with strategy.timesteps 1000, and strategy.prior_timesteps is 10",
        ),
        (Unclip, {"prior": "runs/towers"}, "strategy.prior: .* has no tensor whose name begins with 'prior.'"),
        (Unclip, {"prior": "runs/nope"}, "strategy.prior is runs/nope, and nothing is there: name"),
    ],
)
def test_what_does_not_fit_names_the_option_and_both_values(strategy, options, told, chain):
    base = {UnclipPrior: PRIOR, Unclip: DECODER}[strategy]
    with pytest.raises(ConfigError, match=told):
        made(strategy, base | options)


def test_a_prior_for_other_tokens_says_so(chain):
    longer = replace(TEXT, tokens=9)
    with pytest.raises(ConfigError, match=r"made with data.tokens 3, and here it is 9: give the same"):
        made(Unclip, DECODER, longer)


def test_runs_that_were_moved_together_are_found_beside_the_one_that_is_loaded(chain, tmp_path, monkeypatch):
    path = keep(chain, "decoder", 1)
    tensors, frozen = chain.tensors(), chain.frozen
    shutil.move("runs", "moved")
    monkeypatch.chdir("/")
    moved = tmp_path / "moved" / path.relative_to("runs")
    again = made(Unclip, DECODER, of=moved)
    again.load(tensors, frozen)
    assert again.frozen == frozen
    with pytest.raises(ConfigError, match=r"strategy.encoder is runs/towers, and nothing is there"):
        made(Unclip, DECODER)
