"""Every verb works in every locale: files are UTF-8, and what a terminal cannot show is escaped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ganfleet import cli

LOCALES = {
    "C": None,
    "en_US.UTF-8": ("en_US", "UTF-8"),
    "zh_CN.GBK": ("zh_CN", "GBK"),
    "de_DE": ("de_DE", "ISO-8859-1"),
}
WORDS = {"zh_CN.GBK": "数据", "de_DE": "données"}  # names that the locale's encoding has, and ASCII has not
CONFIG = """\
# 训练
strategy: {{name: gan, resolution: 8, latent: 8, hidden: [16], ema_kimg: 0.1}}
data: {{source: folder, path: {word}, channels: 1}}
train: {{steps: 2, batch_size: 16, lanes: 4}}
log: {{every_steps: 1, samples: 4}}
run: {{name: {word}}}
"""
# All commands in one process, which imports MindSpore once; prints the exit code of each.
SESSION = """\
import sys
from ganfleet.cli import main

word = sys.argv[1]
verbs = [[each, "--help"] for each in sys.argv[2:]]
for words in [
    *verbs,
    ["strategies"],
    ["configs"],
    ["plan", "--config", "config.yaml"],
    ["train", "--config", "config.yaml"],
    ["train", "--config", "config.yaml", "train.steps=3"],
    ["sample", "--checkpoint", f"runs/{word}", "--out", f"{word}.png", "--seeds", "0-3"],
    ["ckpt", "ls", f"runs/{word}"],
    ["ckpt", "export", f"runs/{word}", "--player", "G", "--out", f"{word}.safetensors"],
]:
    try:
        main(words)
    except SystemExit as ended:
        print("ended", words[0], ended.code or 0, flush=True)
"""


@pytest.mark.skipif(shutil.which("localedef") is None, reason="localedef makes the locales")
@pytest.mark.parametrize(
    "name", [each if each == "zh_CN.GBK" else pytest.param(each, marks=pytest.mark.slow) for each in LOCALES]
)
def test_every_verb_and_a_whole_run_work(name, tmp_path):
    definition = LOCALES[name]
    if definition:
        made = subprocess.run(["localedef", "-i", definition[0], "-f", definition[1], tmp_path / name])
        if made.returncode:
            pytest.skip(f"this system has no sources of the locale {name}")
    encoding = definition[1] if definition else "UTF-8"
    word = WORDS.get(name, "数据")
    encoded = os.fsencode(tmp_path) + b"/" + word.encode(encoding)
    os.mkdir(encoded)
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (16, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(os.fsdecode(encoded + f"/{i}.png".encode()))
    Path(os.fsdecode(encoded), "bad.png").write_bytes(b"no image")
    (tmp_path / "config.yaml").write_text(CONFIG.format(word=word), encoding="utf-8")
    environ = {
        each: value for each, value in os.environ.items() if each not in ("LANG", "PYTHONIOENCODING", "PYTHONUTF8")
    }
    environ |= {"LC_ALL": name, "LOCPATH": str(tmp_path)}
    command = [sys.executable, "-c", SESSION, word.encode(encoding), *cli.VERBS]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True)
    output = (done.stdout + done.stderr).decode(encoding)
    codes = [line.split()[1:] for line in output.splitlines() if line.startswith("ended ")]
    assert len(codes) == len(cli.VERBS) + 8 and {code for _, code in codes} == {"0"}, output
    assert f"{word}/bad.png cannot be decoded" in output
    assert os.path.exists(encoded + b".png") and os.path.exists(encoded + b".safetensors")
    written = Path(os.fsdecode(os.fsencode(tmp_path) + b"/runs/" + word.encode(encoding)), "config.yaml").read_bytes()
    assert yaml.safe_load(written.decode("utf-8"))["data"]["path"] == word
