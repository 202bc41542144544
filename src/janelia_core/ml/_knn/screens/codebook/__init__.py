"""The codebook screen: many rows among few centres, which a core's caches hold: the map.

offer       the screen as `choose` knows it
cost        what it takes of memory and of time
screen      one pass over the rows, shared out; the proof of the bound
book        centres as kernels take them, and what scores of theirs prove
kernels     scores of blocks of rows, lists, and answers where these are proven
halves      the best two, of which bfloat16 scores tell where they are
resolve     rows in doubt: their lists by float64 order values
"""
