"""``ganfleet data emoji`` and ``emoji-pair``, from tiny packages made here: no network."""

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, one_error
from PIL import Image

from ganfleet.cli import data as command
from ganfleet.data import emoji

HALF_RED = (255, 0, 0, 128)
TONES = ["1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"]


def image(colour, size=64, kind="png"):
    """A transparent image with a square of ``colour`` in its upper left quarter."""
    picture = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    picture.paste(colour, (0, 0, size // 2, size // 2))
    file = io.BytesIO()
    picture.save(file, kind, lossless=True)
    return file.getvalue()


def tarball(path, files):
    """What npm would have published of ``files``; the path and its integrity."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def publish(monkeypatch, folder, vendor, *packages, count):
    """Put tiny ``packages`` in the place of the vendor's; their tarballs."""
    tarballs, published = [], []
    for package, files in zip(emoji.VENDORS[vendor].packages, packages, strict=True):
        path = folder / f"{package.name.replace('/', '-').strip('@')}-{package.version}.tgz"
        published.append(replace(package, integrity=tarball(path, files)))
        tarballs.append(path)
    monkeypatch.setitem(emoji.VENDORS, vendor, replace(emoji.VENDORS[vendor], packages=tuple(published), count=count))
    return tarballs


def given(tarballs):
    return [word for path in tarballs for word in ("--tarball", str(path))]


def entry(code, name, category, tones=()):
    """One emoji of emoji-datasource, as its emoji.json has it."""
    variants = {tone.upper(): {"unified": f"{code}-{tone}".upper(), "image": f"{code}-{tone}.png"} for tone in tones}
    return {"name": name, "short_name": "x", "unified": code.upper(), "image": f"{code}.png", "category": category} | (
        {"skin_variations": variants} if variants else {}
    )


@pytest.fixture
def noto(monkeypatch, tmp_path):
    """Three emoji: an apple, and a hand in two skin tones."""
    entries = [entry("1f34e", "RED APPLE", "Food & Drink"), entry("261d-fe0f", "HAND", "People", ["1f3fb"])]
    files = {"emoji.json": json.dumps(entries).encode(), "img/google/sheets/64.png": b"huge"}
    files |= {f"img/google/64/{code}.png": image(HALF_RED) for code in ("1f34e", "261d-fe0f", "261d-fe0f-1f3fb")}
    return publish(monkeypatch, tmp_path, "google", files, count=3)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sets" / "emoji"


def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def pixels(path):
    return np.asarray(Image.open(path))


def use_npm(monkeypatch, folder, script):
    """A command named npm that does what ``script``, in sh, says."""
    binaries = folder / "bin"
    binaries.mkdir()
    (binaries / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (binaries / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_a_set_is_png_on_white_with_metadata_and_licence(noto, out):
    ended = ganfleet("data", "emoji", "--vendor", "google", "--out", str(out), "--size", "32", *given(noto))
    assert ended.code == 0 and "3 images of 32x32, Apache License 2.0" in ended.output
    assert rows(out) == [
        {"file": "1f34e.png", "name": "red apple", "category": "Food & Drink", "code": "1f34e", "base": "1f34e"},
        {"file": "261d.png", "name": "hand", "category": "People", "code": "261d", "base": "261d"},
        {
            "file": "261d-1f3fb.png",
            "name": "hand, light skin tone",
            "category": "People",
            "code": "261d-1f3fb",
            "base": "261d",
        },
    ]
    assert {path.name for path in out.glob("*.png")} == {row["file"] for row in rows(out)}
    apple = pixels(out / "1f34e.png")
    assert apple.shape == (32, 32, 3)
    assert apple[0, 0].tolist() == [255, 127, 127] and (apple[16:] == 255).all() and (apple[:, 16:] == 255).all()
    assert "Apache License" in (out / "LICENSE").read_text()
    attribution = (out / "ATTRIBUTION.md").read_text()
    assert "Noto Emoji" in attribution and "composited on white, scaled to 32x32" in attribution


def test_npm_fetches_what_is_not_given(noto, out, tmp_path, monkeypatch):
    use_npm(
        monkeypatch,
        tmp_path,
        f'echo "$2" > {tmp_path}/asked; cp {noto[0]} got.tgz; echo \'[{{"filename": "got.tgz"}}]\'',
    )
    assert ganfleet("data", "emoji", "--vendor", "google", "--out", str(out)).code == 0
    assert (tmp_path / "asked").read_text() == "emoji-datasource-google@16.0.0\n"
    assert len(rows(out)) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_file_and_no_process(number, tmp_path, monkeypatch):
    use_npm(monkeypatch, tmp_path, f"cd {tmp_path}; echo $$ > number.new; mv number.new number; exec sleep 60")
    for name in ("temporary", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    command = [
        sys.executable,
        *["-m", "ganfleet", "data", "emoji", "--vendor", "google", "--out"],
        str(tmp_path / "data" / "x"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "number").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) == 130 and "Traceback" not in process.stderr.read()
    assert list((tmp_path / "temporary").iterdir()) == list((tmp_path / "data").iterdir()) == []
    assert not Path(f"/proc/{(tmp_path / 'number').read_text().strip()}/cmdline").exists()


@pytest.mark.parametrize(
    "script, code, message",
    [
        (None, 2, "npm, which fetches emoji-datasource-google@16.0.0, is not installed"),
        (
            'printf %s \'{"error": {"code": "ENOTFOUND", "summary": "no such host\\nmore"}}\'; exit 1',
            65,
            "ENOTFOUND, no such host. ",
        ),
        ("echo broken >&2; exit 3", 65, "it ended with 3 and said broken"),
        (
            'echo other > got.tgz; echo \'[{"filename": "got.tgz"}]\'',
            65,
            "not emoji-datasource-google@16.0.0 as it was",
        ),
    ],
    ids=["no npm", "no network", "npm breaks", "other bytes"],
)
def test_failing_to_fetch_is_one_clear_error_and_leaves_nothing(
    noto, out, tmp_path, monkeypatch, script, code, message
):
    if script:
        use_npm(monkeypatch, tmp_path, script)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert message in one_error(ganfleet("data", "emoji", "--vendor", "google", "--out", str(out)), code)
    assert not list(out.parent.iterdir())


def test_a_damaged_tarball_is_refused_and_leaves_nothing(noto, out):
    damaged = bytearray(noto[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    noto[0].write_bytes(damaged)
    line = one_error(ganfleet("data", "emoji", "--vendor", "google", "--out", str(out), *given(noto)), 65)
    assert str(noto[0]) in line and "SHA-512 differs" in line
    assert not list(out.parent.iterdir())


def test_too_few_emoji_are_refused_and_leave_nothing(noto, out, monkeypatch):
    monkeypatch.setitem(emoji.VENDORS, "google", replace(emoji.VENDORS["google"], count=4))
    line = one_error(ganfleet("data", "emoji", "--vendor", "google", "--out", str(out), *given(noto)), 65)
    assert "3 emoji where 4 were expected" in line
    assert not list(out.parent.iterdir())


def test_a_missing_tarball_is_a_clear_error(noto, out):
    line = one_error(ganfleet("data", "emoji", "--vendor", "google", "--out", str(out), *given(["no.tgz"])), 65)
    assert "no.tgz cannot be read: No such file" in line


def test_a_folder_in_use_is_left_alone(noto, out):
    out.mkdir(parents=True)
    arguments = ["data", "emoji", "--vendor", "google", "--out", str(out), *given(noto)]
    assert ganfleet(*arguments).code == 0, "an empty folder may be filled"
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "is not empty" in one_error(ganfleet(*arguments), 2)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_place_that_cannot_be_written_is_a_storage_error(noto, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["data", "emoji", "--vendor", "google", "--out", str(tmp_path / "file" / "set"), *given(noto)]
    assert "cannot write" in one_error(ganfleet(*arguments), 74)


def test_images_are_not_enlarged(out):
    line = one_error(ganfleet("data", "emoji", "--vendor", "twitter", "--out", str(out), "--size", "128"), 2)
    assert "Twemoji have 64x64 pixels" in line


def test_the_command_knows_every_vendor():
    [option] = [option for option in command.emoji.params if option.name == "vendor"]
    assert list(option.type.choices) == list(emoji.VENDORS)


@pytest.fixture
def fluent(monkeypatch, tmp_path):
    """A hand, a doctor and a technologist in all skin tones, an apple, and a file that is named after no emoji."""
    index = {
        "\u261d\ufe0f": "index pointing up",
        "\U0001f468\u200d\u2695\ufe0f": "doctor",
        "\U0001f468\u200d\U0001f4bb": "technologist",
        "\U0001f34e": "red apple",
    }
    codes = ["261d-fe0f", "1f468-200d-2695-fe0f", "1f468-200d-1f4bb", "1f34e", "23-20e3"]
    for tone in TONES:
        codes += [f"261d-{tone}", f"1f468-{tone}-200d-2695-fe0f", f"1f468-{tone}-200d-1f4bb"]
    shade = {tone: 50 * n for n, tone in enumerate(TONES)}
    colours = [(shade.get(next((tone for tone in TONES if tone in code), ""), 255), 9, 0, 255) for code in codes]
    drawings = {f"assets/{code}.webp": image(colour, 256, "webp") for code, colour in zip(codes, colours, strict=True)}
    names = json.dumps({text: {"name": name, "group": "Some"} for text, name in index.items()}).encode()
    return publish(monkeypatch, tmp_path, "fluent", drawings, {"data-by-emoji.json": names}, count=19)


def test_fluent_emoji_get_unicode_names_and_their_true_skin_tones(fluent, out):
    """The package exchanges the names of medium-light and medium, but not for technologists."""
    assert ganfleet("data", "emoji", "--vendor", "fluent", "--out", str(out), *given(fluent)).code == 0
    named = {row["name"]: out / row["file"] for row in rows(out)}
    reds = [50 * TONES.index(tone) for tone in ("1f3fb", "1f3fd", "1f3fc", "1f3fe", "1f3ff")]
    tones = ["light", "medium-light", "medium", "medium-dark", "dark"]
    for who, expected in [("index pointing up", reds), ("doctor", reds), ("technologist", sorted(reds))]:
        assert [int(pixels(named[f"{who}, {tone} skin tone"])[0, 0, 0]) for tone in tones] == expected
    assert pixels(named["red apple"]).shape == (64, 64, 3) and named["red apple"].name == "1f34e.png"


@pytest.fixture
def pair(monkeypatch, tmp_path):
    """Forty emoji as Twemoji and Fluent, ten of them in all skin tones, and one that Fluent lacks. Red tells which."""
    codes = [f"1f6{n:02x}" for n in range(41)]
    entries = [entry(code, f"EMOJI {code}", "Some", TONES if n < 10 else ()) for n, code in enumerate(codes)]
    everything = [code for n, code in enumerate(codes) for code in [code] + [f"{code}-{t}" for t in TONES if n < 10]]
    drawings = {f"img/twitter/64/{code}.png": image((2 * n, 0, 0, 255)) for n, code in enumerate(everything)}
    twitter = publish(
        monkeypatch,
        tmp_path,
        "twitter",
        {"emoji.json": json.dumps(entries).encode()} | drawings,
        count=len(everything),
    )
    index = {chr(int(code, 16)): {"name": code, "group": "Some"} for code in codes[:-1]}
    fluent = {
        f"assets/{'-'.join(emoji.EXCHANGED.get(point, point) for point in code.split('-'))}.webp": image(
            (2 * n, 255, 0, 255), 128, "webp"
        )
        for n, code in enumerate(everything[:-1])
    }
    names = {"data-by-emoji.json": json.dumps(index).encode()}
    return twitter + publish(monkeypatch, tmp_path, "fluent", fluent, names, count=len(everything) - 1)


def test_a_pair_holds_out_base_emoji_and_shuffles_the_rest(pair, out):
    ended = ganfleet("data", "emoji-pair", "--out", str(out), "--size", "16", *given(pair))
    assert ended.code == 0, ended.output
    reds = {
        name: {path.name: int(pixels(path)[0, 0, 0]) for path in sorted((out / name).iterdir())}
        for name in ("trainA", "trainB", "testA", "testB")
    }
    counts = {name: len(found) for name, found in reds.items()}
    assert counts["trainA"] + counts["testA"] == 90 and counts["trainB"] + counts["testB"] == 90
    assert (
        f"{counts['trainA']:,} training images per domain; {counts['testA']:,} test pairs of 4 held-out" in ended.output
    )

    codes = {row["file"]: row["code"] for row in rows(out)}
    assert len(codes) == 180
    bases = {
        split: {code.split("-")[0] for file, code in codes.items() if file.startswith(split)}
        for split in ("train", "test")
    }
    assert len(bases["test"]) == 4 and len(bases["train"]) == 36 and not bases["test"] & bases["train"]

    assert reds["testA"] == reds["testB"], "test images of one name show one emoji"
    assert sorted(reds["trainA"].values()) == sorted(reds["trainB"].values())
    assert list(reds["trainA"]) == [f"{n:05d}.png" for n in range(counts["trainA"])]
    a, b = list(reds["trainA"].values()), list(reds["trainB"].values())
    assert a != sorted(a) and b != sorted(b) and sum(x == y for x, y in zip(a, b, strict=True)) < 10
    assert codes["trainA/00000.png"] != codes["trainB/00000.png"]
    assert (out / "LICENSE-A").exists() and (out / "LICENSE-B").exists()
    assert pixels(out / "testB" / next(iter(reds["testB"])))[0, 0, 1] == 255, "B is Fluent"


def test_with_paired_training_images_of_one_name_show_one_emoji_too(pair, out):
    arguments = ["--out", str(out), "--size", "16", "--paired", *given(pair)]
    assert ganfleet("data", "emoji-pair", *arguments).code == 0
    reds = [{p.name: int(pixels(p)[0, 0, 0]) for p in (out / f"train{domain}").iterdir()} for domain in "AB"]
    assert reds[0] == reds[1] and len(set(reds[0].values())) == len(reds[0]) > 30
    assert {f"train{d}/{row['code']}.png" for row in rows(out) for d in "AB" if row["file"].startswith("train")} == {
        f"train{d}/{name}" for d in "AB" for name in reds[0]
    }


def test_the_same_emoji_are_held_out_every_time():
    bases = [f"{n:x}" for n in range(1852)]
    assert emoji.draw_held_out(bases) == emoji.draw_held_out(bases)
    assert len(emoji.draw_held_out(bases)) == 185


@pytest.fixture
def openmoji(monkeypatch, tmp_path):
    row = {"hexcode": "1F34E", "annotation": "red apple", "group": "food-drink", "skintone_base_hexcode": ""}
    drawing = (
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><rect width="36" height="36" fill="#f00"/></svg>'
    )
    files = {"data/openmoji.json": json.dumps([row]).encode(), "color/svg/1F34E.svg": drawing}
    return publish(monkeypatch, tmp_path, "openmoji", files, count=1)


def test_openmoji_without_a_renderer_says_what_to_install(openmoji, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    line = one_error(ganfleet("data", "emoji", "--vendor", "openmoji", "--out", str(out), *given(openmoji)), 2)
    assert "pip install 'ganfleet[openmoji]'" in line
    assert not out.parent.exists()


def test_openmoji_is_drawn_at_the_size_asked_for(openmoji, out):
    pytest.importorskip("resvg_py")
    ended = ganfleet("data", "emoji", "--vendor", "openmoji", "--out", str(out), "--size", "100", *given(openmoji))
    assert ended.code == 0, ended.output
    apple = pixels(out / "1f34e.png")
    assert apple.shape == (100, 100, 3)
    assert (apple[:50, :50] == [255, 0, 0]).all() and (apple[50:] == 255).all()
    assert "ShareAlike" in (out / "LICENSE").read_text()
