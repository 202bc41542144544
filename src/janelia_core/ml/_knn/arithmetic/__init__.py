"""Numbers with proven errors, and exact ones: the map.

bounds          constants of error bounds
double_double   pairs of float64 that carry 106 bits, with a bound
integers        order values as integers of any size
rounding        do both ends of an interval round alike?
"""
