"""The dense CPU screen: scores in int8, bfloat16 or float32, compared while in registers: the map.

offer       the screen as `choose` knows it                       cost: what it takes of memory and time
prepared    packed centres in all the formats that rows asked for
screen      candidates of rows; the proof of the bound
formats     what a word holds, and what rounding to it loses
frame       where points are taken: shifted, scaled, rounded         rounding: the kernel that does so, and measures
centres     packed in panels, with what their keys need              ctr_bounds: the kernel that tells what that is
rows        packed, with thresholds and lists                        row_bounds: what their keys need, what lists prove
scan        rows pass the tiles of centres and keep what may matter
lists       candidates of a row: cut back when full
sieve       a screen of its own by the same scores, first in few leading directions: who is far there is left out unseen
cells       a screen of its own by the same scores, among cells of near centres: whole cells are left out unseen
rough       rough distances, for their looks
within      all centres within a limit; the proof                  within_kernels: whose scores reach it
stored      packed centres as arrays and facts that a file can hold, and back
"""
