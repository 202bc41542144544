"""First derivatives of distances by metric: a new one is a line in the table.

Cosines have none here: they are half the squares of unit vectors (distances.py), and so may be other functions of
vectors that move with the points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from janelia_core.ml._neighbors.derivatives import few_pairs
from janelia_core.ml._neighbors.derivatives.norm_functions import norm_sums, norm_values
from janelia_core.ml._neighbors.derivatives.pair_functions import pair_products, pair_sums
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._neighbors.derivatives.sign_functions import sign_sums, sign_values


class Pairing(NamedTuple):
    """What derivatives of distances are taken at.

    Attributes:
        x: (n, d) rows.
        c: (m, d) centres.
        r: (n, k) the distances.
        indices: (n, k) int64, -1 where there is none.
        first: As for `distances`.
        budget: Bytes of workspace.
    """

    x: Tensor
    c: Tensor
    r: Tensor
    indices: Tensor
    first: Tensor
    budget: int

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Who meets."""
        return self.indices, self.first


class Rule(NamedTuple):
    """First derivatives of one metric, differentiable in turn.

    Attributes:
        gradient: Called with weights (n, k) of the distances: sums by row (n, d) and by centre (m, d).
        along: Called with tangents (n, d) and (m, d) of the points: derivatives (n, k) of the distances.
        few: As `gradient`, of few plain pairs of which no further derivative is wanted; None where that is not for it.
    """

    gradient: Callable[[Tensor, Pairing], tuple[Tensor, Tensor]]
    along: Callable[[Tensor, Tensor, Pairing], Tensor]
    few: Callable[[Tensor, Pairing], tuple[Tensor, Tensor] | None]


def rule_of(metric: str) -> Rule:
    """Return the rule of a metric."""
    if metric not in RULES:
        raise NotImplementedError(f"distances by {metric!r} have no derivative; detach x and ctrs")
    return RULES[metric]


def _norms() -> Rule:
    def gradient(w: Tensor, at: Pairing) -> tuple[Tensor, Tensor]:
        none = at.x.new_empty(at.x.shape[0], 0, at.x.shape[1]), at.c.new_empty(at.c.shape[0], 0, at.c.shape[1])
        return norm_sums(w, *none, at.x, at.c, at.r, *at.pairs, at.budget)

    def along(dx: Tensor, dc: Tensor, at: Pairing) -> Tensor:
        return norm_values(dx[:, None], dc[:, None], at.x, at.c, at.r, *at.pairs, at.budget)

    return Rule(gradient, along, lambda w, at: few_pairs.norm_sums(w, at.x, at.c, at.r, Pairs(*at.pairs), at.budget))


def _pairs(differences: bool, factor: float) -> Rule:
    """Return the rule of a product or of a squared difference, whose derivative is times a factor."""

    def gradient(w: Tensor, at: Pairing) -> tuple[Tensor, Tensor]:
        return pair_sums(w, at.x, at.c, *at.pairs, differences, factor, at.budget)

    def along(dx: Tensor, dc: Tensor, at: Pairing) -> Tensor:
        return pair_products(dx, dc, at.x, at.c, *at.pairs, differences, factor, at.budget)

    def few(w: Tensor, at: Pairing) -> tuple[Tensor, Tensor] | None:
        return few_pairs.sums(w, at.x, at.c, Pairs(*at.pairs), differences, factor, at.budget)

    return Rule(gradient, along, few)


def _signs(largest: bool) -> Rule:
    def gradient(w: Tensor, at: Pairing) -> tuple[Tensor, Tensor]:
        return sign_sums(w, at.x, at.c, *at.pairs, largest, at.budget)

    def along(dx: Tensor, dc: Tensor, at: Pairing) -> Tensor:
        return sign_values(dx, dc, at.x, at.c, *at.pairs, largest, at.budget)

    return Rule(gradient, along, lambda w, at: None)


RULES = {
    "euclidean": _norms(),
    "sqeuclidean": _pairs(True, 2.0),
    "dot": _pairs(False, -1.0),
    "manhattan": _signs(False),
    "chebyshev": _signs(True),
}
