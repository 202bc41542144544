"""The last rungs of the ladder: all centres, or all within a proven radius, block by block, in bounded memory.

What a block leaves is only listed, with its float64 values; a list is put in order when it has grown to twice what is
wanted, and settled when even then it cannot be cut: so a centre costs about the same whatever the blocks and k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.data.mask import Mask
from janelia_core.ml._knn.data.points import plain_nan
from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.plan.memory import most_listed
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.rows import Rows, listed, parts, picked
from janelia_core.ml._knn.screens.contract import Near
from janelia_core.ml._knn.verify.verify import candidate_values, order


class Exhaustive:
    """Searches blocks of rows among all centres, without a list that a screen made.

    Args:
        order: Puts centres into order.
        plan: Sizes of blocks.
        mask: Which centres a row may be answered with; None: all.
    """

    def __init__(self, order: ExactOrder, plan: Plan, mask: Mask | None) -> None:
        self.order, self._k, self._blocks, self._mask, self._ctrs = order, plan.k, plan.blocks, mask, order.ctrs

    def search(self, rows: Rows) -> Tensor:
        """Return the first k (r, k) of all centres, by their float64 order values."""
        cuts = parts(len(rows.values), self._blocks.fallback_rows)
        return torch.cat([self._search_block(rows.pick(part)) for part in cuts])

    def _search_block(self, rows: Rows) -> Tensor:
        best = _Best(rows, self.order)
        for start in range(0, len(self._ctrs), self._blocks.fallback_ctrs):
            block = self._ctrs.block(start, start + self._blocks.fallback_ctrs)
            value, error = self.order.metric.block(rows.values, block, self._ctrs.chunk)
            shown = self._shown(rows, torch.ones_like(value, dtype=torch.bool), start, start + len(block))
            columns = listed(best.may_enter(value, error, shown), 0)
            best.add(
                self._ctrs.row_numbers(torch.where(columns < 0, -1, columns + start)),
                *(part.gather(1, columns.clamp(min=0)) for part in (value, error)),
            )
        return best.finish()

    def within(self, near: Near, rows: Rows, radius: Tensor) -> Tensor:
        """Return the first k (r, k) of all centres that `near` cannot prove to be farther than radius (r,)."""
        cuts = parts(len(radius), self._blocks.escalated_rows)
        return torch.cat([self._within_block(near, rows.pick(part), radius[part]) for part in cuts])

    def _within_block(self, who: Near, rows: Rows, radius: Tensor) -> Tensor:
        cuts = parts(len(radius), max(1, self._blocks.fallback_pairs // most_listed(self._k)))
        lists = [_Best(rows.pick(part), self.order) for part in cuts]
        for start, stop in who.blocks():
            near = who.within(rows, radius, start, stop).to(radius.device)
            near = self._shown(rows, near, start, stop)
            for part, best in zip(cuts, lists, strict=True):
                self._list(best, listed(near[part], start))
        return torch.cat([best.finish() for best in lists])

    def _list(self, best: _Best, positions: Tensor) -> None:
        """Add positions (r, w), some columns at a time."""
        step = max(1, self._blocks.fallback_pairs // len(positions))
        for first in range(0, positions.shape[1], step):
            indices = self._ctrs.row_numbers(positions[:, first : first + step])
            best.add(indices, *candidate_values(best.rows.values, self._ctrs, indices, self.order.metric))

    def _shown(self, rows: Rows, near: Tensor, start: int, stop: int) -> Tensor:
        """Return near (r, stop - start) without what the mask denies."""
        return near if self._mask is None else near & self._mask.tile(rows.numbers, start, stop).to(near.device)


class _Best:
    """The first k of each of r rows among the centres listed so far, and whatever rounding cannot tell from them."""

    def __init__(self, rows: Rows, order: ExactOrder) -> None:
        self.rows, self._order, self._k = rows, order, order.k
        self._most = most_listed(order.k)
        self._list: Ordered | None = None
        self._radius: Tensor | None = None  # upper bound of the k-th value when the list was last cut; NaN: none yet

    def may_enter(self, value: Tensor, error: Tensor, shown: Tensor) -> Tensor:
        """Tell which centres (r, b) of higher index than all before may come among the first k."""
        low = value - error
        if self._radius is None:
            if value.shape[1] < self._k:
                return shown
            # NaN counts as largest in topk; where the k-th is inf or NaN nothing is excluded.
            high = plain_nan((value + error).masked_fill_(~shown, torch.nan))
            return shown & ~(low > high.topk(self._k, dim=1, largest=False).values[:, -1:])
        # A later centre loses ties, so of the classes -inf < finite < inf < NaN only a better one counts.
        radius, missing = self._radius[:, None], self._missing[:, None]
        better = (value < radius) | (torch.isnan(radius) & ~torch.isnan(value))
        return shown & (torch.where(torch.isfinite(radius), low <= radius, better) | missing)

    def add(self, indices: Tensor, value: Tensor, error: Tensor) -> None:
        """List centres (r, w), -1 in empty slots."""
        value = value.masked_fill(indices < 0, torch.nan)
        error = error.masked_fill(indices < 0, 0.0)
        new = Ordered(indices, value, error)
        if self._list is not None:
            new = Ordered(*(torch.cat(both, dim=1) for both in zip(self._list, new, strict=True)))
        self._list = new
        if new.indices.shape[1] > self._most:
            self._cut()

    def _cut(self) -> None:
        assert self._list is not None
        found = order(*self._list)
        radius = self._order.radius(found)
        places = torch.arange(found.value.shape[1], device=radius.device)
        # Infinite and NaN values are in order already, and behind all finite ones.
        far = ~torch.isfinite(found.value) | (found.value - found.error > radius[:, None])
        width = max(self._k, int(((places + 1) * ~far).amax()))
        if width <= self._most - self._k // 2:
            self._list = Ordered(*(part[:, :width] for part in found))
        else:
            kept = self._order.settled(self.rows, found)
            self._list = Ordered(kept, *(picked(found.indices, part, kept) for part in (found.value, found.error)))
        self._radius = radius
        self._missing = self._list.indices[:, self._k - 1] < 0

    def finish(self) -> Tensor:
        """Return the first k (r, k), -1 where there are fewer."""
        assert self._list is not None
        settled = self._order.settled(self.rows, order(*self._list))
        return torch.nn.functional.pad(settled, (0, self._k - settled.shape[1]), value=-1)
