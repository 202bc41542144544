"""Exact neighbours as a differentiable PyTorch operation: the map.

ml/neighbors.py     knn(), knn_graph(): the public calls
      |
call                knn(), from its arguments to distances and indices
arguments           checked before any work                                       spelling: other libraries' names
draw                of centres, for dropout
groups              leading dimensions, ragged and padded batches -> one flat problem and its groups
      |
indices             janelia_core::knn_indices          -> _knn.find, group by group
      |
gradients           janelia_core::knn_distances, knn_cosines  -> _knn.distances     declared in operators
      |             janelia_core::knn_norm_values, knn_norm_sums, knn_pair_products, knn_pair_sums:
      |             all their derivatives, of every order
pairs               sums over (row, neighbour) pairs, linear in the points      pair_kernels    pair_blocks: threads
norm_pairs          derivatives of Euclidean distances                          norm_kernels    pair_lists: who pairs

found               Neighbors: distances, indices, values gathered at them
graph               the found pairs as edge_index, SciPy or torch CSR

modules             NearestCenters and PiecewiseLinear, which ml/modules.py hands on
affine              sums of affine maps over the pairs, for PiecewiseLinear        affine_blocks, affine_kernels
affine_gradients    the same as a differentiable operation, of every order
progress            a bar that reads the report of a search that runs
"""
