"""What products of float16 operands prove: the derivation, and its constants.

Let u be a point less a middle, times a power of two, or divided by its norm: real numbers. A centre's score, whose
order is that of its order values turned round, is s = <u_x, u_c> + b with b = -|u_c|^2 / 2 for distances
(D = |u_x|^2 - 2 s) and b = 0 for inner products and cosines. z is u rounded to float16, r >= |u - z| measured.

(1)  |<u_x, u_c> - <z_x, z_c>| <= |z_x| r_c + r_x |u_c|                                        (Cauchy-Schwarz)

(2)  The matrix unit's P is <z_x, z_c> up to g' |z_x| |z_c|, g' = 1.01 W 2^-23: products of two float16 are float32
     numbers, and a sum of W of them in any order, each step of which may truncate instead of rounding, loses at most
     W 2^-23 of the sum of magnitudes, which is at most |z_x| |z_c|. Of H100 products, the worst seen lost a
     thirteenth of that. Sums of float16 products neither overflow float32 nor underflow: 2^-48 is a normal number.

(3)  With g = g' + 16 2^-23 the rest pays for float32 evaluation of P + b, of thresholds and of comparisons: each of at
     most four operations rounds by 2^-24 of numbers that are at most 2 |z_x| |z_c| + |b| wherever the comparison is not
     clear anyway, and bounds of b reach 2^-20 |b| further than they must.

So with e = |z_x| (r_c + g |z_c|) + r_x |u_c|:  P + b - e <= s <= P + b + e, b rounded down or up.

Centres come in tiles; in e and b stand the extremes over a tile, so that they enter once a row and tile. A group is a
sixteenth or so of a tile, and its maximum M of P belongs to one of its members, so:

     no member scores more than      M + high + e        (high: the largest b of the tile, rounded up)
     one member scores at least      M + low - e         (low: the smallest, rounded down)

The k-th largest `M + low - e` of any groups is a threshold t: k centres at least score t. A group may hold one of the k
nearest only if M + high + e >= t. Every centre that can be among the k nearest is listed so, whatever t was meanwhile,
since t only grows. A list that is full, or a row whose numbers are out of range, is in doubt and says so.

(4)  Lists keep fl(M + low - e). To tell later whether the group may reach a threshold, M is made of it again; five
     roundings lie between, each of at most 2^-24 of |M| + |low| + |high| + 2 e. Those of M and e have their room in g
     and in what |z|, r, q and |u| were rounded up by; those of |low| and |high| <= |low| get 2^-21 |low|.

Centres out of range, |u_c| >= 2^40, or not finite: for distances of rows |u_x| <= 2^30 they score below -2^78, since
s <= -|u_c| (|u_c| / 2 - |u_x|); z = 0 and b = NEVER = -2^78 bound them from above, and nothing bounds them from below
(low = -inf). Where each centre's own bias is in M, so is NEVER: a threshold below NEVER / 2 proves nothing, and counts
as -inf. For inner products of infinite ones and cosines of extreme ones nothing is proven of any row: `strange`. NaN
comes last by definition: NEVER.

What stands in for a centre in the last tile (there is none) has b = -inf and is never a member; low = -inf keeps its
product of 0 from raising a threshold.
"""

from __future__ import annotations

UP = 1.0 + 2.0**-20
TINY = 2.0**-100
REACH, ROW_REACH = 2.0**40, 2.0**30
NEVER = -(2.0**78)
UNIT_LENGTH = 16.0
"""The norm that points get whose directions count: coordinates of 4,096 of them are normal numbers in float16."""
_TRUNCATED = 2.0**-23


def gamma16(width: int) -> float:
    """Return g of (3), for products over `width` columns."""
    return (1.01 * width + 16.0) * _TRUNCATED
