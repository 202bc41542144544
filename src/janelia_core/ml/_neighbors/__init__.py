"""Exact neighbours as a differentiable PyTorch operation: the map.

ml/neighbors.py     knn(), knn_graph(): the public calls
      |
call                knn(), from its arguments to distances and indices
arguments           checked before any work
draw                of centres, for dropout
groups              leading dimensions, ragged and padded batches -> one flat problem and its groups
      |
indices             janelia_core::knn_indices          -> _knn.find, group by group
      |
operators           janelia_core::knn_distances        -> _knn.distances
      |             janelia_core::knn_pair_products, janelia_core::knn_pair_sums
gradients           all their derivatives, of every order
pairs               what these compute: sums over (row, neighbour) pairs           pair_blocks, pair_kernels
      |
graph               the found pairs as edge_index, SciPy or torch CSR

modules             NearestCenters and PiecewiseLinear, which ml/modules.py hands on
affine              sums of affine maps over the pairs, for PiecewiseLinear        affine_blocks, affine_kernels
affine_gradients    the same as a differentiable operation, of every order
progress            a bar that reads the report of a search that runs
"""
