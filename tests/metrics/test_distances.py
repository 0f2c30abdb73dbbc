"""Distances between sets of features, against the formulas of their papers written out, and SciPy's."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from ganfleet import rng
from ganfleet.metrics import distances, similarity
from ganfleet.metrics.rows import BLOCK, Folder, Rows


def rows_of(array, folder):
    """``array`` as an evaluation keeps it, in files of a block each."""
    made = Folder(folder)
    blocks = [array[i : i + BLOCK] for i in range(0, len(array), BLOCK)]
    for i, block in enumerate(blocks):
        made.write(f"{i:06d}", block)
    return Rows(made, [f"{i:06d}" for i in range(len(blocks))], [len(block) for block in blocks])


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two clouds that overlap, in as many dimensions as rows are few; arrays, and as they are kept."""
    draw = np.random.default_rng(5)
    mix = draw.standard_normal((24, 24))
    real = (draw.standard_normal((700, 24)) @ mix / 5 + 1).astype(np.float32)
    fake = (draw.standard_normal((333, 24)) * draw.uniform(0.3, 1.6, 24) @ mix / 5 + 1.2).astype(np.float32)
    folder = tmp_path_factory.mktemp("rows")
    return real, fake, rows_of(real, folder / "real"), rows_of(fake, folder / "fake")


def test_rows_come_in_order_in_chunks_of_any_size_and_by_index(sets):
    real, _, rows, _ = sets
    assert len(rows) == 700
    np.testing.assert_array_equal(np.concatenate(list(rows.chunks(93))), real)
    assert [len(chunk) for chunk in rows.chunks(300)] == [300, 300, 100]
    chosen = np.array([699, 0, 31, 32, 5])
    np.testing.assert_array_equal(rows.take(chosen), real[chosen])


def test_a_block_that_was_damaged_counts_as_missing(tmp_path):
    folder = Folder(tmp_path)
    folder.write("000000", np.arange(6, dtype=np.float32).reshape(3, 2))
    path = tmp_path / "000000"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    assert folder.read("000000") is None
    folder.write("000000", np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(folder.read("000000"), np.ones((3, 2)))


def test_frechet_is_scipys_formula_on_the_same_rows(sets):
    real, fake, *kept = sets
    a, b = map(distances.moments, kept)
    means, covariances = [x.astype(np.float64).mean(0) for x in (real, fake)], [np.cov(x.T) for x in (real, fake)]
    np.testing.assert_allclose(a.covariance, covariances[0], rtol=1e-9)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distances.frechet(a, b) == pytest.approx(expected, rel=1e-6)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_of_fewer_images_than_features_is_that_of_the_plane_they_are_in(tmp_path):
    """Rows in 60 dimensions of which 5 are used: turning them there changes nothing."""
    draw = np.random.default_rng(1)
    flat = [draw.standard_normal((40, 5)) * [1, 2, 3, 4, 5] + shift for shift in (0, 1)]
    turn = scipy.linalg.qr(draw.standard_normal((60, 5)), mode="economic")[0]
    small = [distances.moments(rows_of(x, tmp_path / f"small{i}")) for i, x in enumerate(flat)]
    large = [distances.moments(rows_of(x @ turn.T, tmp_path / f"large{i}")) for i, x in enumerate(flat)]
    assert distances.frechet(*large) == pytest.approx(distances.frechet(*small), rel=1e-6)


def kid_by_sums(x, y):
    """Equation 4 of the paper, pair by pair."""

    def k(p, q):
        return (float(np.dot(p, q)) / len(p) + 1) ** 3

    m = len(x)
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(p, q) for p in x for q in y) / m**2


def test_kid_is_the_papers_sum_over_pairs_and_subsets(sets):
    real, fake, *kept = sets
    values = []
    for i in range(3):
        stream = rng.stream(7, "kid", i)
        chosen = [x[stream.choice(len(x), 40, replace=False)].astype(np.float64) for x in (real, fake)]
        values.append(kid_by_sums(*chosen))
    mean, error = distances.kid(*kept, seed=7, subsets=3, size=40)
    assert mean == pytest.approx(np.mean(values), rel=1e-9)
    assert error == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=1e-9)


def test_kid_of_many_subsets_looks_at_each_pair_once_and_finds_the_same(sets, monkeypatch):
    real, fake, *kept = sets
    values = []
    for i in range(12):
        stream = rng.stream(7, "kid", i)
        x, y = (rows[stream.choice(len(rows), 160, replace=False)].astype(np.float64) for rows in (real, fake))
        values.append(distances.mmd2(x, y))
    monkeypatch.setattr(type(kept[0]), "take", None)  # nobody asks for a subset's rows
    mean, error = distances.kid(*kept, seed=7, subsets=12, size=160)
    assert mean == pytest.approx(np.mean(values), rel=1e-9)
    assert error == pytest.approx(np.std(values, ddof=1) / np.sqrt(12), rel=1e-9)


def test_kid_of_one_distribution_is_zero_on_average(tmp_path):
    draw = np.random.default_rng(2)
    kept = [rows_of(draw.standard_normal((2000, 8)), tmp_path / str(i)) for i in range(2)]
    mean, error = distances.kid(*kept, seed=0, subsets=20, size=200)
    assert abs(mean) < 4 * error


def test_precision_and_recall_count_rows_in_balls(sets):
    real, fake, *kept = sets

    def inside(rows, others):
        bounds = np.sort(cdist(others, others), 1)[:, 3]
        return (cdist(rows, others) <= bounds).any(1).mean()

    expected = inside(fake, real), inside(real, fake)
    assert expected[0] != expected[1] and 0.05 < min(expected) < max(expected) < 0.95
    assert distances.precision_recall(*kept) == pytest.approx(expected, abs=1e-12)


def test_density_and_coverage_count_balls_with_rows(sets):
    real, fake, *kept = sets
    bounds = np.sort(cdist(real, real), 1)[:, 5]
    hits = cdist(real, fake) < bounds[:, None]
    expected = hits.sum() / (5 * len(fake)), hits.any(1).mean()
    assert distances.density_coverage(*kept) == pytest.approx(expected, abs=1e-12)


def test_inception_score_is_one_where_all_look_alike_and_the_number_of_classes_where_each_is_sure(tmp_path):
    classes = np.tile(np.eye(4), (50, 1))
    assert distances.inception_score(rows_of(classes, tmp_path / "sure"), lambda x: x)[0] == pytest.approx(4)
    alike = np.full((200, 4), 0.25)
    assert distances.inception_score(rows_of(alike, tmp_path / "alike"), lambda x: x) == pytest.approx((1, 0))


def test_inception_score_is_the_papers_over_ten_parts(tmp_path):
    given = np.random.default_rng(0).dirichlet(np.full(6, 0.4), 250)
    scores = []
    for part in np.split(given, 10):
        scores.append(np.exp((part * np.log(part / part.mean(0))).sum(1).mean()))
    expected = np.mean(scores), np.std(scores)
    assert distances.inception_score(rows_of(given, tmp_path), lambda x: x) == pytest.approx(expected, rel=1e-9)


# ── Images


@pytest.fixture(scope="module")
def images():
    draw = np.random.default_rng(3)
    a = draw.integers(0, 256, (2, 3, 19, 23), dtype=np.uint8)
    noisy = np.clip(a + draw.normal(0, 40, a.shape), 0, 255).astype(np.uint8)
    return a, noisy


def ssim_by_windows(a, b):
    """Wang et al.'s formula at every place where the 11×11 window fits."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    for channel_a, channel_b in zip(a.astype(float), b.astype(float), strict=True):
        for i in range(a.shape[1] - 10):
            for j in range(a.shape[2] - 10):
                x, y = channel_a[i : i + 11, j : j + 11], channel_b[i : i + 11, j : j + 11]
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                cov = (window * (x - mx) * (y - my)).sum()
                top = (2 * mx * my + 6.5025) * (2 * cov + 58.5225)
                values.append(top / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225)))
    return np.mean(values)


def test_ssim_is_the_papers_formula_window_by_window(images):
    expected = [ssim_by_windows(*pair) for pair in zip(*images, strict=True)]
    np.testing.assert_allclose(similarity.ssim(*images), expected, rtol=1e-9)
    np.testing.assert_allclose(similarity.ssim(images[0], images[0]), 1)


def test_l1_and_psnr_are_closed_forms():
    a = np.zeros((2, 1, 4, 4), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 255  # four of sixteen pixels
    np.testing.assert_allclose(similarity.l1(a, b), [0.25, 0])
    np.testing.assert_allclose(similarity.psnr(a, b), [10 * np.log10(4), np.inf])


def test_ms_ssim_is_the_weighted_product_over_five_scales():
    """Stripes of one pixel in the one, none in the other: their structure is in the finest scale, and gone below."""
    a = np.full((1, 1, 176, 176), 128, np.uint8)
    b = a.copy()
    b[..., ::2], b[..., 1::2] = 118, 138
    variance = similarity._ssim(a.astype(float), b.astype(float))[0][0]
    assert 0.2 < variance < 0.8
    assert similarity.ms_ssim(a, b)[0] == pytest.approx(variance**0.0448, rel=1e-6)
    assert similarity.ms_ssim(b, b)[0] == pytest.approx(1)
