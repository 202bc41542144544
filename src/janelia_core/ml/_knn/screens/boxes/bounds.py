"""What float32 differences prove: the derivation, and its constants (which kernels repeat, see `kernels.nearby`).

Let z be the float32 coordinates of a point, r >= |u - z| what they lack of its place u = v - middle; of values that
float32 holds, the middle is 0 and so is r. The key of a row and a centre, K, is the sum of the squares of the float32
differences of their z. Each of its d <= 8 terms carries at most d + 2 roundings of unit 2^-24 (fewer where
multiplication and addition are one instruction), and whatever underflows, flushed or not, adds up to less than
a = (d + 2) 2^-125 < TINY / 8. So, with D_z the exact squared distance of the z, and e = 2^-20 > (d + 2) 2^-24,

    (1 - e) D_z - a <= K <= (1 + e) D_z + a.                                                                        (1)

A bound. Let k centres have keys <= t. Their distances, as real numbers, are at most s + r with
s = sqrt((t + a) / (1 - e)) and r = r_x + max r_c; so is that of any centre of the answer; that centre's z lie within
s + 2 r of the row's, and with UP = 1 + 2^-18 its key is at most

    limit = (sqrt(t + TINY) UP + 2 r UP)^2 UP + TINY,   or   t UP + TINY   where r = 0,                             (2)

since UP > (1 + e)^2 / (1 - e) and what it exceeds that by, more than 2^-20, pays for the few roundings of (2) itself.
So whoever has a key beyond the limit belongs to no answer. That holds for whatever keys are computed by which kernel:
each is within (1). `limit` only falls; t may be any number that k keys are found not to exceed, so bisection may stop
early.

A box holds the extremes of the z in it. Its key, from the differences of a row to the nearest place of it, is within
(1) of the true one, D_b, which is at most D_z of any centre in it. So its key is at most K UP + TINY, and no box that
holds a centre with K <= limit has a key beyond limit UP + TINY.

Far and strange values. Keys that overflow are +inf: of these D_z > 2^126, while limits are at most MOST = 2^120.
Centres with coordinates that are not finite stand at +inf, where every key is +inf and no limit reaches them; as the
definition has it, they are behind all finite ones. Of values that float32 does not hold, centres beyond `reach` in any
coordinate stand there, too, that they spoil no r: rows are at most reach / 2 from the middle, else they are in doubt,
so that such centres are farther than reach / 2 from them, all but 2^-20 of that, and limits are at most reach^2 / 8.
Fewer than k keys that are finite prove nothing; nor does a row that is not finite, or beyond 2^60: rows in doubt. A
list holds all within the limit, or says that it does not.
"""

from __future__ import annotations

MOST = 2.0**120
ROW_REACH = 2.0**60
SPREADS = 2.0**8
"""How many times the spread of the centres `reach` is, where float32 does not hold the values."""
