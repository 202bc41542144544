"""The boxes screen: centres along Hilbert's curve, in boxes that tiles of neighbouring rows walk, on a GPU: the map.

offer       the screen as `choose` knows it                       cost: what it takes, and whether that is less
bounds      what float32 differences prove: the derivation
values      coordinates as kernels take them, and what they lack
shapes      how many rows, centres, candidates at a time
planted     centres -> boxes
listing     rows -> lists of candidates
screen      lists -> answers, by the kernels that verify and rank for the Triton screen, too
kernels     what runs on the device, in Triton
"""
