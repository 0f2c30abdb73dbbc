"""What a report shows of a run: read from directories as runs leave them, down to the places of a curve's points."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from left_behind import CONFIG, START, grown, line, write_run

from ganfleet.observe.report import card, page, read
from ganfleet.observe.report.charts import POINTS, Curve, bins, chart, ticks
from ganfleet.observe.report.page import GRIDS, faults, state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read(grown(tmp_path_factory.mktemp("left") / "grown"))


class Reader(HTMLParser):
    """Refuses a page whose elements are not closed in order, and keeps its text, elements and addresses."""

    VOID = frozenset(["meta", "link", "img", "input", "br", "hr", "wbr"])

    def __init__(self, content):
        super().__init__()
        self.open, self.elements, self.addresses, self.text = [], [], [], ""
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.addresses += [value for key, value in attributes.items() if key in ("src", "href", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data + " "


def test_stages_have_their_time_and_their_most_memory(run):
    small, large = run.stretches
    assert (small.resolution.height, small.first, small.last) == (8, 0, 0.8)
    assert small.seconds == pytest.approx(0.4 * 2 + 0.4 * 4) and small.memory == {"D": 81}
    assert (large.resolution.height, large.first, large.last) == (16, 0.8, 1.2)
    assert large.seconds == pytest.approx(0.4 * 10) and large.memory == {"D": 90}


def test_what_was_survived_is_told_from_history_log_and_checkpoint(tmp_path):
    change = {"step": 75, "key": "strategy.lr", "was": 0.1, "is": 0.2}
    directory = grown(tmp_path / "changed")
    write_run(tmp_path / "other", step=75, accepted=[change])
    (directory / "checkpoints/step-00000075").rename(tmp_path / "gone")
    (tmp_path / "other/checkpoints/step-00000075").rename(directory / "checkpoints/step-00000075")
    assert list(faults(read(directory))) == [
        "The process that began at 2026-01-02 03:04:05+00:00 was killed, or its host was lost; the run went on from "
        "0.8 kimg.",
        "By 0.8 kimg, 2 updates were skipped, because a gradient or a stat was not finite.",
        "From step 75 on, strategy.lr was 0.2 instead of 0.1.",
    ]


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([], "how it ended is not recorded"),
        ([START], "it still runs, or was killed"),
        ([START, START | {"event": "end", "exit_code": 0}], "reached its end"),
        ([START, START | {"event": "end", "error": "Stopped", "exit_code": 75}], "stopped by a signal"),
        (
            [START, START | {"event": "end", "error": "NonFinite", "exit_code": 80, "message": "too many"}],
            "NonFinite, exit code 80: too many",
        ),
    ],
)
def test_how_a_run_ended_is_what_its_last_process_said(history, told, tmp_path):
    assert state(read(write_run(tmp_path / "run", history=history))) == told


def test_a_page_is_well_formed_asks_for_nothing_and_takes_what_users_type_as_text(run):
    content = page(run)
    shown = Reader(content)
    assert [each for each in shown.addresses if not each.startswith(("data:", "#"))] == []
    assert "<i>left" not in content and "<i>left</i>" in shown.text  # run.name, in the config
    assert "kid_x 0.5 ± 0.01" in shown.text and "2,000 images, embedded" in shown.text
    anchors = {attributes["id"] for _, attributes in shown.elements if "id" in attributes}
    assert {each[1:] for each in shown.addresses if each.startswith("#")} <= anchors
    labelled = [attributes for tag, attributes in shown.elements if tag in ("img", "svg") and "class" not in attributes]
    assert all(each.get("alt") or each.get("aria-label") for each in labelled)


def test_every_curve_is_drawn_once_with_gaps_where_a_value_was_not_finite(run):
    content = page(run)
    rows = re.findall(r'<th scope="row">.*?</svg>([^<]*)</th>', content.replace("<wbr>", ""))
    assert sorted(rows) == sorted(["D", "G", "real", "kid_x", "pace"])
    assert "The same throughout: Schedule/lr/G 0.002." in content
    [losses] = re.findall(r"<figcaption>Loss of each phase</figcaption><svg.*?</svg>", content)
    lengths = [len(points.split()) for points in re.findall(r'<polyline class="c1" points="([^"]*)"', losses)]
    assert lengths == [1, 1]  # G's second value is missing
    assert len(re.findall(r'<text class="mark"[^>]*>(8×8|16×16)</text>', losses)) == 2


def test_the_points_of_a_line_are_where_the_labels_of_the_axes_say():
    """Places of the labels, as the picture has them, give the scale; the points must lie on it."""
    rng = np.random.default_rng(0)
    xs, ys = np.sort(rng.uniform(0, 700, 40)), rng.normal(-3, 20, 40)
    content = chart("t", [Curve("c", list(zip(xs, ys, strict=True)))])

    def scale(name, place):
        labels = re.findall(rf'<text class="{name}"[^>]*\b{place}="([-\d.]+)"[^>]*>([−\d.,]+)</text>', content)
        places, values = zip(
            *((float(at), float(v.replace("−", "-").replace(",", ""))) for at, v in labels), strict=True
        )
        slope, offset = np.polyfit(places, values, 1)
        return lambda at: slope * np.array(at) + offset

    [points] = re.findall(r'<polyline[^>]*points="([^"]*)"', content)
    at = np.array([each.split(",") for each in points.split()], float)
    np.testing.assert_allclose(scale("x", "x")(at[:, 0]), xs, atol=700 / 410 * 0.1)
    np.testing.assert_allclose(scale("y", "y")(at[:, 1] + 4), ys, atol=np.ptp(ys) / 186 * 0.2)  # text is 4 lower


def test_many_points_become_means_within_their_range_and_lose_no_extreme():
    ys = np.random.default_rng(1).standard_cauchy(12_345)
    binned = bins([(float(i), float(y)) for i, y in enumerate(ys)])
    assert len(binned) == POINTS and binned[-1].x == 12_344
    assert min(each.low for each in binned) == ys.min() and max(each.high for each in binned) == ys.max()
    starts = [0, *(int(each.x) + 1 for each in binned[:-1])]
    means = [ys[first : int(each.x) + 1].mean() for first, each in zip(starts, binned, strict=True)]
    np.testing.assert_allclose([each.y for each in binned], means, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.37, 1, 42, 1e6])
def test_labels_of_an_axis_are_few_round_even_and_around_all_values(scale):
    rng = np.random.default_rng(2)
    for low, high in np.sort(rng.normal(0, scale, (200, 2))):
        found = np.array(ticks(low, high))
        steps = np.diff(found)
        assert found[0] <= low + 1e-9 * steps[0] and high - 1e-9 * steps[0] <= found[-1]
        assert 4 <= len(found) <= 9 and np.allclose(steps, steps[0])
        mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
        assert np.isclose(mantissa, [1, 2, 2.5, 5]).any()
    assert ticks(3, 3)[0] <= 3 <= ticks(3, 3)[-1] and (ticks(0, 0)[0], ticks(0, 0)[-1]) == (0, 1)


def test_a_run_killed_in_a_line_has_all_lines_but_that_one(tmp_path):
    directory = grown(tmp_path / "killed")
    with open(directory / "log.jsonl", "a") as file:
        file.write('{"step": 100, "nimg": 16')
    run = read(directory)
    assert len(run.log) == 3 and run.unreadable == {"log.jsonl": 1}
    assert "left out: 1 in log.jsonl" in Reader(page(run)).text


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
    text = Reader(page(read(write_run(tmp_path / "new")))).text
    for told in ("drawn no samples", "no line of training", "Nothing has been measured", "has written none"):
        assert told in text


def test_images_that_are_not_square_and_stages_of_an_old_log_are_shown(tmp_path):
    config = CONFIG.replace("resolution: 16", "resolution: [16, 24]")
    run = read(write_run(tmp_path / "wide", [line(5, [16, 24], Loss__D=1.0)], grids=(0.05,), text=config))
    text = Reader(page(run)).text
    assert "16×24" in text and run.stretches[0].seconds is None


def test_of_many_grids_some_are_shown_the_first_and_the_last_among_them(tmp_path):
    run = read(write_run(tmp_path / "long", grids=()))
    path = write_run(tmp_path / "grids", grids=(0.0,)) / "samples" / "000000.000kimg.png"
    run.samples = [(float(i), path) for i in range(3 * GRIDS)]
    labels = re.findall(r'data-label="([\d.]+) kimg', page(run))
    assert len(labels) == GRIDS and labels[0] == "0" and labels[-1] == str(3 * GRIDS - 1)


def test_a_damaged_picture_is_left_out(tmp_path):
    directory = grown(tmp_path / "damaged")
    (directory / "samples" / "000000.800kimg.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    assert re.findall(r'data-label="([\d.]+) kimg', page(read(directory))) == ["0", "1.2"]


def test_the_card_says_what_it_was_trained_on_how_good_it_is_and_how_to_draw(run):
    text = card(run, "MIT")
    assert "StyleGAN (arXiv:1812.04948)." in text and "for 1.2 thousand images (75 steps): stopped by a signal." in text
    assert "- Source: 2,000 images, embedded" in text and "- Classes: 2 (bag, boot)" in text
    assert "- Licence of the data: MIT\n" in text and "| parameters | G 15 |" in text
    assert "| 1.2 | kid_x 0.25 ± 0.01 | 256 | 2,000 | x |" in text and "kid_x 0.5" not in text  # the newest alone
    assert f"ganfleet sample --checkpoint {run.path} --out grid.png --seeds 0-63" in text
    assert "Licence of the data: not known to ganfleet" in card(run, None)


def test_the_card_of_a_model_that_translates_says_how_to_translate(tmp_path):
    run = read(write_run(tmp_path / "pairs", history=[START | {"directions": ["A2B", "B2A"]}]))
    text = card(run, None)
    assert re.findall(r"ganfleet (\w+) .*--direction (\w+)", text) == [("translate", "A2B"), ("translate", "B2A")]
