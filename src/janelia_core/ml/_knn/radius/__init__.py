"""All centres within a radius of each row: the map.

    find        the door: rows, centres and radii -> a ragged answer
    plan        who lists centres that may be near enough, in blocks of how many rows
    look        how many of them a row may have
    sources     who lists them: a screen, torch operations, or the groups of a batch
    blocks      a block of rows: listed, verified, decided, put in order
    compiled    the same by kernels, but for rows that float64 leaves in doubt
    kernels     listed pairs -> those within, in order
    decision    distance <= r: by float64 with its error, by double-doubles, by integers
    threshold   r in the units of order values
    order       members of a row, nearest first, exactly
    kept_parts  the same among kept centres that come in parts
    ragged      where answers go: counts first, then all indices

The order is that of `knn`, and so is its proof. New is the decision at the boundary, in real arithmetic between
the stored radius and the true distance of the stored values. A screen that offers `Meeting.within` lists at least all
members; nothing else is asked of it.
"""
