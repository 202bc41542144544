"""Numbers with proven errors, and exact ones: the map.

bounds          constants of error bounds
double_double   pairs of float64 that carry 106 bits, with a bound
compensated     sums of float64 with a measured error, by compiled kernels
sines           sines and cosines as sums of two float64      exact_sines: the same and angles, from integers
angles          over chords of the sphere, as sums of two        angle_kernels: sines and angles, compiled
integers        of any size, and their rounding
rounding        do both ends of an interval round alike?
to_float32      the same of one number at a time, by compiled kernels
to_float64      the same of one double-double
triton_sums     compensated sums, double-doubles and their rounding in kernels for GPUs
"""
