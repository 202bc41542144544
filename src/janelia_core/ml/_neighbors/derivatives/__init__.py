"""Distances of pairs and all their derivatives, as PyTorch operators: the map.

distances       janelia_core::knn_distances, knn_cosines -> _knn.distances
                knn_norm_values, knn_norm_sums, knn_pair_products, knn_pair_sums: their derivatives
operators       declares them
pairs           sums over (row, neighbour) pairs, linear in the points     pair_kernels, pair_lists: who pairs
pair_blocks     the same, shared out to threads
norm_pairs      derivatives of Euclidean distances                         norm_kernels
"""
