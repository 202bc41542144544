"""Keys of near-ties: differences of order values, within the error they come with, at every magnitude."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from janelia_core.ml._knn.settle import kernels as settle_kernels

N_SEEDS = 400


def spread(rng: np.random.Generator, shape: tuple[int, ...], kind: int) -> np.ndarray:
    """Return float64 values: ordinary, tiny, huge, each of any magnitude, or whole."""
    values = rng.standard_normal(shape)
    if kind == 4:
        return np.rint(4 * values)
    low, high = ((0, 1), (-1070, -300), (300, 1015), (-1070, 1015))[kind]
    return np.ldexp(values, rng.integers(low, high, shape if kind == 3 else ()))


def problem(seed: int, product: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a row (1, d) and centres (d, p), the first of which all are compared with."""
    rng = np.random.default_rng(seed)
    d, p = rng.integers(1, 5), rng.integers(2, 5)
    x, c = spread(rng, (1, d), int(rng.integers(5))), spread(rng, (d, p), int(rng.integers(5)))
    if rng.random() < 0.5:  # centres that share most of what they are
        c = c[:, :1] * (1 + rng.integers(-2, 3, (d, p)) * 2.0**-52)
    if not product and rng.random() < 0.5:
        x = x * 2.0 ** -rng.integers(0, 60) + c[:, :1].T
    return x, np.ascontiguousarray(c)


def keys(x: np.ndarray, c: np.ndarray, product: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hi, lo, error = (np.empty(c.shape[1]) for _ in range(3))
    settle_kernels.difference_keys(product, x, 0 * x, c, 0 * c, np.array([0, c.shape[1]]), hi, lo, error)
    return hi, lo, error


def true_keys(x: np.ndarray, c: np.ndarray, product: bool) -> list[Fraction]:
    """Return what orders the centres, less what the first of them has, as real numbers."""
    row = [Fraction(v) for v in x[0].tolist()]
    pairs = [list(zip(row, map(Fraction, centre), strict=True)) for centre in c.T.tolist()]
    values = [sum(-a * b if product else (a - b) ** 2 for a, b in pair) for pair in pairs]
    return [value - values[0] for value in values]


def are_within(x: np.ndarray, c: np.ndarray, product: bool, loss: float = settle_kernels.LOSS) -> bool:
    """Tell whether all keys are within their errors of the true ones, plain or times the factors that may be taken.

    With a smaller `loss`, whatever had parts too small to be exact is not forgiven.
    """
    hi, lo, error = keys(x, c, product)
    error = np.where(error >= settle_kernels.LOSS, error - settle_kernels.LOSS + loss, error)
    fu, fv = settle_kernels._scales(product, x, 0, c, 0, c.shape[1])
    found = [
        (Fraction(h) + Fraction(rest), e) for h, rest, e in zip(hi.tolist(), lo.tolist(), error.tolist(), strict=True)
    ]
    return any(
        all(
            not np.isfinite(e) or abs(value * factor - key) <= Fraction(e)
            for value, (key, e) in zip(true_keys(x, c, product), found, strict=True)
        )
        for factor in (Fraction(1), Fraction(fu) * Fraction(fv))
    )


@pytest.mark.parametrize("product", [False, True])
def test_keys_are_within_their_errors_at_every_magnitude(product):
    assert [seed for seed in range(N_SEEDS) if not are_within(*problem(seed, product), product)] == []


@pytest.mark.parametrize("product", [False, True])
def test_errors_are_no_larger_than_need_be_for_numbers_that_do_not_leave_the_range(product):
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((1, 8)), rng.standard_normal((8, 1)) * (1 + rng.integers(-2, 3, (8, 9)) * 2.0**-52)
    hi, _, error = keys(x, np.ascontiguousarray(c), product)
    assert (error <= 2.0**-95 * np.abs(hi).max()).all()


def test_lost_parts_that_are_not_counted_are_noticed():
    assert not all(
        are_within(*problem(seed, product), product, 0.0) for seed in range(N_SEEDS) for product in (False, True)
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-(2**26), 2**26), min_size=2, max_size=6),
    st.integers(-40, 40),
    st.permutations(range(4)),
)
def test_exact_ties_come_without_error(values, exponent, order):
    """A centre and the same coordinates in another order are equally far from 0, whatever their bits."""
    base = np.resize(np.array(values, dtype=np.float64), 4) * 2.0**exponent
    c = np.ascontiguousarray(np.stack([base, base[list(order)], -base]).T)
    hi, lo, error = keys(np.zeros((1, 4)), c, False)
    assert (hi.tolist(), lo.tolist(), error.tolist()) == ([0.0] * 3, [0.0] * 3, [0.0] * 3)
