"""Distances of pairs and all their derivatives, as PyTorch operators: the map.

distances       of the neighbours found -> _knn.distances, with their derivatives
rules           of each metric: which of these are its first derivatives
angles          of places on the sphere, likewise
pair_functions  of squares, cosines and products: sums over pairs, each other's derivatives
norm_functions  of Euclidean distances, likewise
sign_functions  of manhattan and chebyshev distances, likewise
functions       what these share: an operator and an autograd Function for every mode of torch
operators       janelia_core::knn_distances and all others, as torch sees them
      |
pairs           sums over (row, neighbour) pairs, linear in the points     pair_lists: who pairs
norm_pairs      derivatives of Euclidean distances over pairs
sign_pairs      of manhattan and chebyshev distances                       sign_blocks, sign_kernels
few_pairs       the first derivatives of few pairs, all together            few_kernels: the same in one pass
pair_blocks     both, shared out to threads                                pair_kernels: the loops
triton          their sums on a GPU
"""
