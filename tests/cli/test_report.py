"""``ganfleet report`` as a user types it, and its page in a real browser."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from browser import Browser
from commands import ganfleet, one_error
from left_behind import grown, write_run

from ganfleet.data.licence import licence_of


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run, in the working directory."""
    monkeypatch.chdir(tmp_path)
    grown(tmp_path / "runs" / "grown")
    return tmp_path / "runs" / "grown"


def report(*words):
    return ganfleet("report", *map(str, words))


def hashes(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_a_report_adds_two_files_to_the_run_and_changes_none(run):
    before = hashes(run)
    ended = report(run)
    assert ended.code == 0, ended.output
    assert ended.output.splitlines() == [str(run / "report.html"), str(run / "MODEL_CARD.md")]
    after = hashes(run)
    assert set(after) - set(before) == {run / "report.html", run / "MODEL_CARD.md"}
    assert {path: after[path] for path in before} == before
    assert "Licence of the data: MIT, Copyright (c) 2017 Zalando SE" in (run / "MODEL_CARD.md").read_text("utf-8")


def test_a_report_needs_no_mindspore(run):
    """It takes a second or two, where importing MindSpore alone takes longer."""
    look = f"""
import sys
from ganfleet.cli import main
try:
    main(["report", {str(run)!r}])
finally:
    print("imported:", "mindspore" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0 and "imported: False" in done.stdout, done.stderr


def test_an_earlier_report_is_written_anew_and_nothing_else_is(run):
    assert report(run).code == 0
    page, card = run / "report.html", run / "MODEL_CARD.md"
    first = page.read_bytes()
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "# more\n")
    assert report(run).code == 0
    assert page.read_bytes() != first and "# more" in card.read_text("utf-8")

    card.write_text(card.read_text("utf-8").replace("Not known to ganfleet; write it here", "CC0"), "utf-8")
    before = card.read_bytes()
    ended = report(run)
    assert ended.code == 0 and f"{card} has been changed since ganfleet wrote it" in ended.output
    assert card.read_bytes() == before

    page.write_text("<html>mine</html>")
    assert "is no report as ganfleet wrote it: move it, or name another file with --out" in one_error(report(run), 2)
    assert page.read_text() == "<html>mine</html>"


def test_a_report_can_be_written_elsewhere(run, tmp_path):
    assert "make it first" in one_error(report(run, "--out", tmp_path / "no" / "r.html"), 2)
    assert "name a file that ends in .html" in one_error(report(run, "--out", tmp_path / "r.pdf"), 2)
    assert not list(tmp_path.glob("r.*"))
    assert report(run, "--out", tmp_path / "r.html").code == 0
    assert (
        (tmp_path / "r.html").exists() and (tmp_path / "MODEL_CARD.md").exists() and not (run / "report.html").exists()
    )


def test_a_folder_that_is_no_run_is_refused_with_what_to_give(run, tmp_path):
    assert "there is no such folder; give the folder of a run" in one_error(report("nowhere"), 2)
    assert "it holds runs; give one of them, such as runs/grown" in one_error(report("runs"), 2)
    step = next((run / "checkpoints").iterdir())
    assert f"it is a checkpoint; give the folder of its run, {run}" in one_error(report(step), 2)
    (tmp_path / "empty").mkdir()
    assert "it has no config.yaml" in one_error(report("empty"), 2)
    (tmp_path / "empty" / "config.yaml").write_text("colours: [red]\n")
    assert "its config.yaml names no strategy" in one_error(report("empty"), 2)
    assert not list((tmp_path / "empty").glob("report*"))


def test_the_licence_is_that_which_the_data_say_themselves(tmp_path):
    assert licence_of({"source": "embedded"}) == "MIT, Copyright (c) 2017 Zalando SE"
    assert licence_of({"source": "folder", "path": str(tmp_path)}) is None
    assert licence_of({"source": "gone:Class", "path": str(tmp_path / "gone")}) is None
    (tmp_path / "ATTRIBUTION.md").write_text("Images: Noto\n\nLicence: Apache License 2.0\n")
    (tmp_path / "LICENSE-trainA").write_text("Apache")
    said = licence_of({"source": "folder", "path": str(tmp_path)})
    assert said == f"Apache License 2.0; see {tmp_path}/ATTRIBUTION.md, {tmp_path}/LICENSE-trainA"


# ── In a browser

SHOWN = "[...document.querySelectorAll('.grids img')].filter(each => each.offsetParent).map(each => each.dataset.label)"
HEIGHTS = "[...document.querySelectorAll('.chart text')].map(each => each.getBoundingClientRect().height)"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"  # than the window
GREY = """(async () => {
  const image = [...document.querySelectorAll('.grids img')].find(each => each.offsetParent);
  await image.decode();
  const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return [image.naturalWidth, image.naturalHeight, context.getImageData(5, 5, 1, 1).data[0]];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report's page, alone in a folder: what it needs is in it."""
    folder = tmp_path_factory.mktemp("page")
    assert ganfleet("report", str(grown(folder / "runs")), "--out", str(folder / "page.html")).code == 0
    shutil.rmtree(folder / "runs")
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(page):
    with Browser() as browser:
        browser.open(page)
        yield browser


def test_the_slider_moves_the_grid(browser):
    assert browser.evaluate(SHOWN) == ["1.2 kimg, 16×16 pixels"] and browser.evaluate(GREY) == [40, 30, 90]
    browser.evaluate("document.querySelector('input[type=range]').focus()")
    browser.press("ArrowLeft", 37)
    assert browser.evaluate(SHOWN) == ["0.8 kimg, 8×8 pixels"] and browser.evaluate(GREY) == [40, 30, 50]
    browser.press("Home", 36)
    assert browser.evaluate(SHOWN) == ["0 kimg, 8×8 pixels"] and browser.evaluate(GREY) == [40, 30, 10]
    assert browser.evaluate("document.querySelector('output').textContent") == "0 kimg, 8×8 pixels"
    browser.evaluate("document.querySelector('button').click()")
    ended = "document.querySelector('button').textContent === 'Play'"
    wait = f"new Promise(end => setInterval(() => {{ if ({ended}) end(true); }}, 20))"
    assert browser.evaluate(wait) and browser.evaluate(SHOWN) == ["1.2 kimg, 16×16 pixels"]


def test_a_pointer_on_a_chart_reads_the_values_there(browser):
    box = browser.evaluate(
        "(() => { const svg = document.querySelector('.chart svg'); svg.scrollIntoView();"
        " const b = svg.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    browser.move(box[0] + 0.7 * box[2], box[1] + box[3] / 2)
    cells = "[...document.querySelectorAll('.chart')[0].querySelectorAll('.at')].map(each => each.textContent)"
    assert browser.evaluate(cells) == ["at 0.8", "1.25", "–"]  # D, and G, which was not finite there
    browser.move(2, 2)
    assert browser.evaluate(cells) == ["", "", ""]


def test_every_number_of_the_run_has_a_curve_with_labels_that_can_be_read(browser):
    names = "[...document.querySelectorAll('.chart tbody th')].map(each => each.textContent)"
    assert sorted(browser.evaluate(names)) == ["D", "G", "kid_x", "pace", "real"]
    assert min(browser.evaluate(HEIGHTS)) > 11
    assert browser.evaluate(WIDER) == 0


def test_the_browser_asks_for_nothing_and_complains_of_nothing(browser, page):
    browser.evaluate("new Promise(requestAnimationFrame).then(() => true)")
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.complaints() == []


def contrast(a, b):
    """As WCAG 2 defines it, of two colours as ``rgb(r, g, b)``."""

    def luminance(colour):
        values = np.array([int(each) for each in colour[4:-1].split(",")]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_stand_out_in_light_and_dark(dark, browser):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    probe = """(() => {
      const style = (element, name) => getComputedStyle(element)[name], one = each => document.querySelector(each);
      const probe = document.body.appendChild(document.createElement('p'));
      const lines = [0, 1, 2, 3, 4, 5, 6, 7].map(i => (probe.style.color = `var(--c${i})`, style(probe, 'color')));
      probe.remove();
      return {ground: style(document.body, 'backgroundColor'), lines,
              text: ['h1', '.note', 'dt', 'a', '.chart thead th'].map(each => style(one(each), 'color')),
              labels: ['svg text.x', 'svg text.y', 'svg text.mark'].map(each => style(one(each), 'fill'))};
    })()"""
    found = browser.evaluate(probe)
    assert bool(contrast(found["ground"], "rgb(0, 0, 0)") < 2) is dark
    for colour in (*found["text"], *found["labels"]):
        assert contrast(colour, found["ground"]) >= 4.5
    for colour in found["lines"]:
        assert contrast(colour, found["ground"]) >= 3


def test_on_a_telephone_nothing_is_cut_off_and_labels_are_as_large_also_of_a_run_that_has_only_begun(page, tmp_path):
    assert ganfleet("report", str(write_run(tmp_path / "new"))).code == 0
    with Browser(width=360) as browser:
        for path in (tmp_path / "new" / "report.html", page):
            browser.open(path)
            assert browser.evaluate(WIDER) == 0 and browser.complaints() == []
        assert min(browser.evaluate(HEIGHTS)) > 11
