"""Exact neighbours as a differentiable PyTorch operation: the map.

ml/neighbors.py     knn(), knn_graph(): the public calls
      |
arguments           checked before any work                                       spelling: other libraries' names
groups              leading dimensions, ragged and padded batches -> one flat problem and its groups
      |
operators           janelia_core::knn_indices          -> _knn.find, group by group
      |
gradients           janelia_core::knn_distances        -> _knn.distances
      |             janelia_core::knn_pair_products       and all their derivatives, of every order
      |             janelia_core::knn_pair_sums
pairs               what those two compute: sums over (row, neighbour) pairs       pair_kernels
      |
found               Neighbors: distances, indices, values gathered at them
graph               the found pairs as edge_index, SciPy or torch CSR

piecewise           the operator behind modules.PiecewiseLinear                    piecewise_kernels
progress            a bar that reads the report of a search that runs
"""
