"""The tree screen's certificate is never wrong, and where it certifies the answer is the definition's."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import CHEBYSHEV, DISTANCE, MANHATTAN
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.screen import TreeScreen
from janelia_core.ml._runtime.workers import Workers
from plans import rows_of

Problem = tuple[Tensor, Tensor]


by_form = pytest.mark.parametrize("form", [DISTANCE, MANHATTAN, CHEBYSHEV], ids=["squares", "sizes", "largest"])


def exact_distances(x: Tensor, ctrs: Tensor, form: int = DISTANCE) -> np.ndarray:
    """Order values of float or integer values as Python integers, in units of 2^-2200."""
    scale = 1 << 1100

    def integers(values: Tensor) -> np.ndarray:
        ratios = [float(v).as_integer_ratio() for v in values.double().flatten()]
        out = np.empty(len(ratios), object)
        out[:] = [top * (scale // bottom) for top, bottom in ratios]
        return out.reshape(values.shape)

    a, b = integers(x), integers(ctrs)
    gaps = [a[:, None, q] - b[None, :, q] for q in range(a.shape[1])]
    if form == DISTANCE:
        return sum(gap**2 for gap in gaps)
    sizes = [abs(gap) * scale for gap in gaps]
    return sum(sizes) if form == MANHATTAN else functools.reduce(np.maximum, sizes)


def answer(distances: np.ndarray, k: int) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda j, row=row: (row[j], j))[:k] for row in distances]


def spare_copies(ctrs: Tensor, k: int) -> np.ndarray:
    """Which centres have k identical ones of lower position, and so can never be answered."""
    seen: dict[tuple[float, ...], int] = {}
    spare = []
    for row in ctrs.tolist():
        seen[tuple(row)] = seen.get(tuple(row), 0) + 1
        spare.append(seen[tuple(row)] > k)
    return np.array(spare)


def planted(
    ctrs: Tensor, k: int, x: Tensor | None = None, workers: Workers | None = None, form: int = DISTANCE
) -> TreeScreen:
    """Return the screen of a tree over all of ctrs, for rows of x."""
    return TreeScreen(BoxTree(Points(ctrs), k, workers), k, x, workers, form)


def check(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    uncertified: int = 0,
    given_x: bool = True,
    exact: np.ndarray | None = None,
    form: int = DISTANCE,
) -> TreeScreen:
    """Check every certificate against exact distances (computed if not given), and the answers of certified rows."""
    with Workers(2) as workers:
        screen = planted(ctrs, k, x if given_x else None, workers, form)
        order = screen.tree.order(x, workers) if given_x else torch.arange(len(x))
    assert sorted(order.tolist()) == list(range(len(x)))
    found = screen.candidates(rows_of(x[order]))
    exact = exact_distances(x, ctrs, form) if exact is None else exact
    distances, spare = exact[order.numpy()], spare_copies(ctrs, k)
    expected, failed = answer(distances, k), 0
    for i, listed in enumerate(found.indices.tolist()):
        listed = [j for j in listed if j >= 0]
        assert len(set(listed)) == len(listed), "a centre is listed twice"
        mine = sorted(listed, key=lambda j, i=i: (distances[i, j], j))[:k]
        excluded = float(found.excluded[i])
        if excluded == np.inf:
            assert mine == expected[i]
            continue
        numerator, denominator = excluded.as_integer_ratio()
        limit = (numerator << 2200) // denominator  # floor: compares like the exact value with integers
        unlisted = np.ones(len(ctrs), bool)
        unlisted[listed] = False
        unlisted &= ~spare
        assert all(d >= limit for d in distances[i, unlisted]), "the certificate is wrong"
        if len(mine) == k and distances[i, mine[-1]] < limit:
            assert mine == expected[i]
        else:
            failed += 1
    assert failed <= uncertified
    if screen.stored:
        check_answer(screen, x, ctrs, distances, expected, order)
    return screen


def check_answer(
    screen: TreeScreen, x: Tensor, ctrs: Tensor, exact: np.ndarray, expected: list[list[int]], order: Tensor
) -> None:
    """Check that the rows which the fused path answers are answered right, on lattices all."""
    out = torch.full((screen.k, len(x)), -7)
    doubtful = screen.answer(x, order, out).tolist()
    for place, row in enumerate(order.tolist()):
        if place in doubtful:
            assert (out[:, row] == -7).all()
        else:
            assert out[:, row].tolist() == expected[place]
    assert not screen.exact_keys or not doubtful


def gaussian(n: int, m: int, d: int, seed: int = 0) -> Problem:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g), torch.randn(m, d, generator=g)


@pytest.mark.parametrize(("d", "k"), [(1, 10), (2, 1), (3, 10), (5, 1), (8, 10), (16, 1)])
@by_form
def test_certifies_gaussian_rows_in_any_dimension(form: int, d: int, k: int) -> None:
    check(*gaussian(40, 700, d), k, form=form)


@pytest.mark.parametrize(("n_ctrs", "k"), [(1, 1), (5, 5), (16, 16), (17, 3), (33, 33), (40, 25), (300, 100)])
@by_form
def test_one_leaf_long_lists_and_all_centres(form: int, n_ctrs: int, k: int) -> None:
    check(*gaussian(11, n_ctrs, 3), k, form=form)


def test_blocks_of_any_size_and_several_threads_find_the_same() -> None:
    x, ctrs = gaussian(1000, 20_000, 3)
    with Workers(2) as workers:
        screen = planted(ctrs, 7, x, workers)
        whole, parts, single = (torch.empty(7, 1000, dtype=torch.int64) for _ in range(3))
        rows = torch.arange(1000)
        left = [screen.answer(x, rows, whole), planted(ctrs, 7).answer(x, rows, single)]
        left += workers.each(lambda i: screen.answer(x, rows[i : i + 37], parts), range(0, len(x), 37))
    assert sum(map(len, left)) == 0
    truth = ((x.double()[:, None] - ctrs.double()) ** 2).sum(-1).topk(7, largest=False).indices.T
    assert all(torch.equal(found, truth) for found in (whole, parts, single))


def test_searching_the_centres_themselves() -> None:
    _, ctrs = gaussian(1, 400, 3)
    screen = check(ctrs, ctrs, 4)
    out, names = torch.empty(4, 400, dtype=torch.int64), torch.arange(400) * 3
    wide = torch.empty(1200, 3)
    wide[names] = ctrs
    screen = TreeScreen(BoxTree(Points(wide, names), 4), 4, ctrs)
    assert len(screen.answer(ctrs, torch.arange(400), out)) == 0
    assert torch.equal(out[0], names)


def degenerate() -> dict[str, Callable[[], Problem]]:
    g = torch.Generator().manual_seed(3)

    def column(values: Tensor, d: int, at: int) -> Tensor:
        out = torch.full((len(values), d), 0.3)
        out[:, at] = values
        return out

    ulp = torch.ones(500)
    ulp += torch.randint(0, 40, (500,), generator=g) * 2.0**-23
    t = torch.rand(900, 1, generator=g)
    return {
        "all equal": lambda: (torch.full((9, 4), 0.1), torch.full((3000, 4), 0.1)),
        "all equal, asked from elsewhere": lambda: (
            torch.rand(9, 4, generator=g),
            torch.full((3000, 4), 0.1),
        ),
        "equal but in one dimension": lambda: (
            column(torch.rand(20, generator=g), 5, 2),
            column(torch.rand(900, generator=g), 5, 2),
        ),
        "on a line in 16-d": lambda: (t[:30] * torch.arange(16.0), t * torch.arange(16.0)),
        "boxes that touch": lambda: (
            torch.cartesian_prod(*[torch.arange(0, 30, 7) * 0.1] * 2),  # on the planes that split
            torch.cartesian_prod(*[torch.arange(30) * 0.1] * 2),
        ),
        "Gaussian in 32-d": lambda: (torch.randn(9, 32, generator=g), torch.randn(400, 32, generator=g)),
        "clusters in 24-d": lambda: (lambda p: (p + 0.01, p.repeat(90, 1) + 0.01 * torch.randn(900, 24, generator=g)))(
            torch.randn(10, 24, generator=g)
        ),
        "one ulp apart": lambda: (column(ulp[:20], 3, 1), column(ulp, 3, 1)),
        "duplicates by the thousand": lambda: (
            torch.randn(12, 3, generator=g),
            torch.randn(7, 3, generator=g).repeat(700, 1),
        ),
        "duplicates among others": lambda: (
            torch.randn(12, 3, generator=g),
            torch.cat([torch.randn(900, 3, generator=g), torch.randn(2, 3, generator=g).repeat(900, 1)])[
                torch.randperm(2700, generator=g)
            ],
        ),
        "rows at piles of duplicates": lambda: (lambda p: (p, torch.cat([p.repeat(300, 1), p * 1.5])))(
            torch.randn(5, 2, generator=g)
        ),
        "lattice": lambda: (
            torch.randint(0, 6, (40, 3), generator=g).float(),
            torch.randint(0, 6, (1500, 3), generator=g).float(),
        ),
        "lattice of eighths, far off": lambda: (
            torch.randint(0, 64, (20, 2), generator=g) / 8.0 + 1000,
            torch.randint(0, 64, (900, 2), generator=g) / 8.0 + 1000,
        ),
        "uint8": lambda: (
            torch.randint(0, 256, (30, 3), generator=g, dtype=torch.uint8),
            torch.randint(100, 130, (1200, 3), generator=g, dtype=torch.uint8),
        ),
        "int16": lambda: (
            torch.randint(-9, 9, (30, 2), generator=g, dtype=torch.int16),
            torch.randint(-9, 9, (600, 2), generator=g, dtype=torch.int16),
        ),
        "subnormal": lambda: (
            torch.randn(20, 2, generator=g) * 1e-40,
            torch.randn(300, 2, generator=g) * 1e-40,
        ),
        "huge": lambda: (
            torch.randn(20, 3, generator=g) * 2.0**53,
            torch.randn(300, 3, generator=g) * 2.0**53,
        ),
        "signed zeros": lambda: (torch.zeros(5, 2), torch.tensor([0.0, -0.0]).repeat(400).reshape(-1, 2)),
    }


@pytest.mark.parametrize("name", degenerate())
@by_form
def test_certificate_and_answers_on_degenerate_data(form: int, name: str) -> None:
    x, ctrs = degenerate()[name]()
    uncertified = len(x) if name in ("subnormal", "one ulp apart", "boxes that touch") else 0
    exact = exact_distances(x, ctrs, form)
    for k in (1, 10) if form == DISTANCE else (10,):
        check(x, ctrs, k, uncertified, exact=exact, form=form)
        check(x, ctrs, k, len(x), given_x=False, exact=exact, form=form)


@pytest.mark.parametrize("k", [1, 6, 7, 14, 15, 40])
@by_form
def test_lists_of_one_two_and_many_chunks(form: int, k: int) -> None:
    for n_ctrs in (41, 600):
        x, ctrs = gaussian(37, n_ctrs, 3)
        check(x, ctrs, k, form=form)
        check((x * 4).round(), (ctrs * 4).round(), k, form=form)


def test_many_rows_in_the_cell_of_a_leaf_are_all_put_in_order() -> None:
    x, ctrs = gaussian(700, 40, 2)
    check(torch.cat([x, ctrs, ctrs[:1].repeat(50, 1)]), ctrs, 3)


def test_rows_of_adjacent_packets_are_near_one_another() -> None:
    x, ctrs = gaussian(20_000, 200, 3)
    with Workers(2) as workers:
        order = planted(ctrs, 4, x, workers).tree.order(x, workers)
    packets = x[order].reshape(-1, 16, 3)
    across = packets.amax(dim=1) - packets.amin(dim=1)
    assert across.median() < 0.5  # of some 7


def test_float32_keys_within_their_error_are_left_to_float64() -> None:
    """Distances that differ by less than float32 can tell: keys tie or come in the wrong order."""
    steps = 1.0 + torch.arange(40) * 2.0**-23
    ctrs = torch.stack([steps, 3.0 - steps.flip(0) * 0.5, steps * 1.25], dim=1)
    x = torch.tensor([[0.1, 0.7, -0.3], [5.0, 5.0, 5.0], [1.0, 2.5, 1.25]])
    check(x, ctrs, 7, uncertified=3)


def test_float64_within_float32_resolution_is_refused_or_right() -> None:
    g = torch.Generator().manual_seed(1)
    ctrs = 1.0 + torch.rand(900, 3, generator=g, dtype=torch.float64) * 1e-9
    check(ctrs[:20] + 1e-12, ctrs, 5, uncertified=20)


@by_form
def test_float64_is_certified_through_measured_residuals(form: int) -> None:
    g = torch.Generator().manual_seed(1)
    x, ctrs = (torch.randn(n, 3, generator=g, dtype=torch.float64) for n in (40, 900))
    assert not check(x, ctrs, 5, form=form).stored


def test_float64_duplicates_by_the_thousand_are_certified() -> None:
    g = torch.Generator().manual_seed(1)
    ctrs = torch.randn(5, 3, generator=g, dtype=torch.float64).repeat(700, 1)
    check(torch.randn(20, 3, generator=g, dtype=torch.float64), ctrs, 4)


@by_form
def test_large_integers_are_rounded_with_measured_residuals(form: int) -> None:
    g = torch.Generator().manual_seed(1)
    x, ctrs = (torch.randint(0, 1 << 40, (n, 2), generator=g) for n in (20, 500))
    assert not check(x, ctrs, 5, form=form).stored


def test_lattice_keys_are_recognised_as_exact_and_others_not() -> None:
    pixels = torch.randint(0, 256, (500, 3), dtype=torch.uint8)
    assert planted(pixels, 3, pixels).exact_keys
    assert not planted(pixels, 3, pixels[:9] + 0.1).exact_keys
    assert not planted(pixels.int() * 100, 3, pixels.int()).exact_keys
    for form, steps in ((MANHATTAN, 2**22), (CHEBYSHEV, 2**24)):  # d range / g stays below 2^24
        wide = torch.tensor([[0.0] * 3, [steps - 1.0] * 3])
        assert planted(wide, 2, wide, form=form).exact_keys
        assert not planted(wide, 2, torch.tensor([[0.0] * 3, [2.0 * steps] * 3]), form=form).exact_keys


@pytest.mark.parametrize("form", [MANHATTAN, CHEBYSHEV])
def test_a_bound_that_forgets_what_float32_has_lost_is_caught(form: int) -> None:
    """The centres, a quarter of an ulp apart, are all at 1 in float32, and a little nearer in truth."""
    g = torch.Generator().manual_seed(1)
    ctrs = 1.0 - torch.rand(900, 3, generator=g, dtype=torch.float64) * 2.0**-26
    x = torch.full((1, 3), 1.0 - 2.0**-20, dtype=torch.float64)
    screen, exact = planted(ctrs, 3, x, form=form), exact_distances(x, ctrs, form)[0]

    def excludes_rightly() -> bool:
        found = screen.candidates(rows_of(x))
        others = np.delete(exact, found.indices[0].numpy())
        return bool(others.min() >= int(float(found.excluded[0]) * 2.0**60) << 2140)

    assert excludes_rightly()
    screen.tree.residual = 0.0
    assert not excludes_rightly()


@pytest.mark.parametrize("k", [2, 5, 16, 18])
def test_a_list_that_is_not_full_names_no_centre_twice(k: int) -> None:
    """A pile of copies and one more point, the last of the tree, are all that a list of k + 2 is filled with."""
    g = torch.Generator().manual_seed(0)
    far = -1000 - torch.rand(3200 - 101, generator=g)
    ctrs = torch.cat([torch.full((100,), 0.1), far, torch.tensor([1.3])])[:, None]
    x = torch.rand(40, 1, generator=g) * 0.3 + 0.75
    screen = check(x, ctrs, k)
    assert int(screen.tree.boxes.ids[-1]) == len(ctrs) - 1


def test_many_identical_centres_cost_no_more_than_few() -> None:
    ctrs = torch.full((50_000, 3), 0.25)
    ctrs[::1000] = torch.rand(50, 3)
    screen = planted(ctrs, 5, ctrs[:10])
    assert screen.tree.live <= 50 + 5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 200),
    st.integers(1, 12),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([DISTANCE, MANHATTAN, CHEBYSHEV]),
    st.integers(0, 2**31),
)
def test_random_small_worlds_full_of_ties(
    d: int, n_ctrs: int, k: int, side: int, scaled: bool, form: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    x, ctrs = (torch.randint(0, side, (n, d), generator=g).float() for n in (6, n_ctrs))
    if scaled:
        x, ctrs = x * 0.1, ctrs * 0.1
    check(x, ctrs, min(k, n_ctrs), uncertified=6 if scaled else 0, form=form)


@pytest.mark.parametrize("kind", ["distinct", "few values", "sorted", "falling", "one value", "nearly one value"])
@pytest.mark.parametrize("n", [17, 63, 64, 65, 500, 20_001])
def test_every_split_of_a_tree_parts_its_points_and_loses_none(kind: str, n: int) -> None:
    g = torch.Generator().manual_seed(0)
    values = torch.rand(n, 2, generator=g)
    ctrs = {
        "distinct": values,
        "few values": (values * 4).round(),
        "sorted": values.sort(dim=0).values,
        "falling": values.sort(dim=0, descending=True).values,
        "one value": torch.full((n, 2), 0.3),
        "nearly one value": torch.where(values < 0.01, values, 0.5),
    }[kind]
    tree = BoxTree(Points(ctrs), n)
    boxes = tree.boxes
    assert tree.live == n
    assert sorted(boxes.ids[:n].tolist()) == list(range(n))
    inner = np.flatnonzero(boxes.axis >= 0)
    sides = boxes.boxes.reshape(-1, 2, 2)
    right = inner + 2 * ((boxes.span[inner] + 1) // 2)
    assert (sides[inner + 1, boxes.axis[inner], 1] <= boxes.at[inner]).all()
    assert (sides[right, boxes.axis[inner], 0] >= boxes.at[inner]).all()
    leaves = boxes.z.reshape(-1, 2, 16).transpose(0, 2, 1).reshape(-1, 2)[:n]
    assert kind == "one value" or np.array_equal(leaves, ctrs.numpy()[boxes.ids[:n]])
