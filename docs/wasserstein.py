"""Makes docs/img/wasserstein.png, the plot of docs/wasserstein.md: `python docs/wasserstein.py`, extra `docs`."""

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

import ganfleet  # noqa: E402, F401, I001  (sets what MindSpore reads at import)

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from parallel_lines import best_slope, distance, divergence, line, slope, train  # noqa: E402
from scipy.stats import wasserstein_distance_nd  # noqa: E402

THETAS = [0.25, 0.5, 1.0, 1.5, 2.0]
STEPS, PENALTY = 300, 10


def main():
    rows = np.array([measure(theta) for theta in THETAS])
    print("theta  JSD by D  its slope  W (SciPy)  W by the critic  expected  its slope  expected")
    for theta, row in zip(THETAS, rows, strict=True):
        print(f"{theta:5.2f}  " + "  ".join(f"{value:8.4f}" for value in row))
    plot(rows)


def measure(theta: float) -> tuple[float, ...]:
    """What each game's D, once trained, says of two lines at distance θ, and what it tells the generator."""
    with tempfile.TemporaryDirectory() as directory:
        d = train("JSGame", theta, STEPS, Path(directory))
        critic = train("WGame", theta, STEPS, Path(directory))
    expected = best_slope(theta, PENALTY)
    return (
        divergence(d),
        slope(d, d.strategy.minimax_g_loss),
        wasserstein_distance_nd(line(0, 40), line(theta, 40)),
        distance(critic),
        theta * expected,
        slope(critic, critic.strategy.g_loss),
        expected,
    )


def plot(rows: np.ndarray) -> None:
    jsd, jsd_slope, _, w, _, w_slope, _ = rows.T
    theta = np.linspace(0, THETAS[-1] * 1.05, 100)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(theta, theta, "C0", label="W = θ")
    left.plot(theta, theta * best_slope(theta, PENALTY), "C0:", label="θ·(1 + θ/2λ), what WGAN-GP estimates")
    left.plot(THETAS, w, "C0o", label="the trained critic's estimate")
    left.axhline(np.log(2), color="C3", label="JSD = log 2 (but 0 at θ = 0)")
    left.plot(THETAS, jsd, "C3s", label="by the trained discriminator")
    left.plot(0, 0, "C3s", fillstyle="none")
    left.set(xlabel="θ, the distance between the lines")
    left.legend(fontsize="x-small")
    right.plot(theta, best_slope(theta, PENALTY), "C0:", label="1 + θ/2λ")
    right.plot(THETAS, w_slope, "C0o", label="WGAN-GP")
    right.axhline(0, color="C3")
    right.plot(THETAS, jsd_slope, "C3s", label="minimax GAN")
    right.set(xlabel="θ", ylim=(-0.1, 1.3), title="∂/∂θ of the generator's loss")
    right.legend(fontsize="x-small")
    (DOCS / "img").mkdir(exist_ok=True)
    figure.savefig(DOCS / "img" / "wasserstein.png", dpi=110)


if __name__ == "__main__":
    main()
