"""The Triton screen: float16 products on a GPU's matrix units, filtered where they are made: the map.

offer       the screen as `choose` knows it                       cost: what it takes, and how it goes about a search
screen      packed centres; rows, block by block                  tiles: what a program multiplies, by width and chip
bounds      what products of float16 operands prove               canary: whether they do so here
launches    kernels from tensors
kernels     the kernels themselves
"""
