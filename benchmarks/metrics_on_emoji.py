"""Do the distances order sets of emoji as a person would? Noto is the reference.

    for vendor in google twitter fluent; do ganfleet data emoji --vendor $vendor --out data/emoji/$vendor; done
    python benchmarks/metrics_on_emoji.py data/emoji

Half of the emoji, with all their skin tones, are the reference, as Noto draws them. The sets that are compared with it
show the other half, each the same emoji: Noto's own, blurred by 1 and by 2 pixels, with noise of 30 levels, and as
Twemoji and Fluent draw them. What came out is in docs/metrics.md.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ganfleet import rng
from ganfleet.data.emoji import without_tones
from ganfleet.fleet import cpu

ROWS = (  # each farther from Noto than the one before
    ("Noto, held out", "blurred by 1 pixel", "blurred by 2 pixels", "with noise of 30 levels"),
    ("Noto, held out", "Twemoji", "Fluent"),
)


def main(root: Path, count: int, inception: Path | None, kept: Path) -> int:
    cpu.pin(1)
    from ganfleet.engine.evaluation import Extractor, one_thread
    from ganfleet.metrics import distances
    from ganfleet.metrics.networks import feature_network
    from ganfleet.metrics.rows import BLOCK, Folder, Rows

    extractor = Extractor(feature_network(inception))

    def rows(name: str, images: list[np.ndarray]) -> Rows:
        folder = Folder(kept / name)
        starts = range(0, len(images), BLOCK)
        for start in starts:
            if folder.read(f"{start:06d}") is None:
                folder.write(f"{start:06d}", extractor.features(np.stack(images[start : start + BLOCK])))
        print(f"{name}: {len(images)} images", file=sys.stderr, flush=True)
        return Rows(
            folder, [f"{start:06d}" for start in starts], [len(images[start : start + BLOCK]) for start in starts]
        )

    reference, others = sets(root, count)
    with one_thread():
        real = rows("reference", reference)
        moments = distances.moments(real)
        found = {}
        for name, images in others.items():
            made = rows(name, images)
            kid, error = distances.kid(real, made, seed=0)
            found[name] = distances.frechet(moments, distances.moments(made)), kid, error
    fd, kid = extractor.network.called("fd", "fid"), extractor.network.called("kid", "kid")
    print(f"| set | `{fd}` | `{kid}` |\n| --- | --- | --- |")
    for name, (frechet, mean, error) in found.items():
        print(f"| {name} | {frechet:.2f} | {mean:.4f} ± {error:.4f} |")
    wrong = [row for row in ROWS if any(np.any(np.diff([found[name][i] for name in row]) <= 0) for i in (0, 1))]
    for row in wrong:
        print(f"out of order: {' < '.join(row)}", file=sys.stderr)
    return 1 if wrong else 0


def sets(root: Path, count: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """The reference, and what is compared with it: ``count`` images uint8 (3, h, w) each."""
    files = {vendor: _files(root / vendor) for vendor in ("google", "twitter", "fluent")}
    noto = files["google"]
    bases = sorted({without_tones(code) for code in noto})
    half = set(rng.stream(0, "reference").permutation(bases)[: len(bases) // 2].tolist())
    chosen = rng.stream(0, "chosen")
    mine = [code for code in sorted(noto) if without_tones(code) in half]
    shared = [code for code in sorted(noto) if without_tones(code) not in half]
    shared = [code for code in shared if code in files["twitter"] and code in files["fluent"]]
    mine, shared = (sorted(chosen.permutation(codes)[:count].tolist()) for codes in (mine, shared))
    pictures = [Image.open(noto[code]).convert("RGB") for code in shared]
    draw = rng.stream(0, "noise")

    def noisy(picture: Image.Image) -> np.ndarray:
        pixels = np.asarray(picture, np.float64)
        return np.clip(np.rint(pixels + draw.normal(0, 30, pixels.shape)), 0, 255).astype(np.uint8)

    made = {
        "Noto, held out": pictures,
        "blurred by 1 pixel": [each.filter(ImageFilter.GaussianBlur(1)) for each in pictures],
        "blurred by 2 pixels": [each.filter(ImageFilter.GaussianBlur(2)) for each in pictures],
        "with noise of 30 levels": list(map(noisy, pictures)),
        "Twemoji": [Image.open(files["twitter"][code]).convert("RGB") for code in shared],
        "Fluent": [Image.open(files["fluent"][code]).convert("RGB") for code in shared],
    }
    reference = [Image.open(noto[code]).convert("RGB") for code in mine]
    arrays = {name: [np.asarray(each).transpose(2, 0, 1) for each in images] for name, images in made.items()}
    return [np.asarray(each).transpose(2, 0, 1) for each in reference], arrays


def _files(folder: Path) -> dict[str, Path]:
    """The pictures by the codes of their emoji."""
    lines = (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    return {row["code"]: folder / row["file"] for row in map(json.loads, lines)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="holds google, twitter and fluent")
    parser.add_argument("--count", type=int, default=1000, help="images in each set")
    parser.add_argument(
        "--kept", type=Path, default=Path("features"), help="where features are kept, for a second start"
    )
    parser.add_argument("--inception", type=Path, help="weights of FID's Inception-v3")
    sys.exit(main(**vars(parser.parse_args())))
