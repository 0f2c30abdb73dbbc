"""Makes docs/img/theory.png, the plot of docs/theory.md: `python docs/theory.py`, with the extra `docs` installed."""

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

import ganfleet  # noqa: E402, F401, I001  (sets what MindSpore reads at import)

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from one_dimension import GRID, P_DATA, Values, jsd, logits, optimal_d, sigmoid, train  # noqa: E402
from scipy.stats import norm  # noqa: E402

P_G = norm(1, 0.7)
STEPS = 400


def main():
    seen = Values(P_G, every=4)
    with tempfile.TemporaryDirectory() as directory:
        d = sigmoid(logits(train(P_G, STEPS, Path(directory), seen)))
    steps, values = np.array(seen.values).T
    bound = -np.log(4) + 2 * jsd(P_G)
    error = np.trapz(np.abs(d - optimal_d(P_G, GRID)) * (P_DATA.pdf(GRID) + P_G.pdf(GRID)) / 2, GRID)
    print(f"bound {bound:.6f}  V {values[-1]:.6f}  largest V {values.max():.6f}  mean |D - D*| {error:.4f}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    shown = np.abs(GRID) <= 4
    x = GRID[shown]
    left.fill_between(x, P_DATA.pdf(x), alpha=0.25, label="p_data = N(0, 1)")
    left.fill_between(x, P_G.pdf(x), alpha=0.25, label="p_g = N(1, 0.7²)")
    left.plot(x, optimal_d(P_G, x), "k--", label="D* = p_data / (p_data + p_g)")
    left.plot(x, d[shown], "C3", label=f"D after {STEPS} steps")
    left.set(xlabel="x", ylim=(0, 1.02))
    left.legend(fontsize="x-small")
    right.axhline(bound, color="k", linestyle="--", label="−log 4 + 2·JSD")
    right.axhline(-np.log(4), color="grey", linestyle=":", label="−log 4")
    right.plot(steps, values, "C3", label="V(G, D)")
    right.set(xlabel="steps of D")
    right.legend(fontsize="x-small")
    (DOCS / "img").mkdir(exist_ok=True)
    figure.savefig(DOCS / "img" / "theory.png", dpi=110)


if __name__ == "__main__":
    main()
