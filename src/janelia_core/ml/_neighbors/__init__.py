"""Exact neighbours as a differentiable PyTorch operation: the map.

ml/neighbors.py     knn(), knn_graph(): the public calls
      |
call                knn(), from its arguments to distances and indices
arguments           checked before any work                                       spelling: other libraries' names
draw                of centres, for dropout
groups              leading dimensions, ragged and padded batches -> one flat problem and its groups
      |
indices             janelia_core::knn_indices          -> _knn.find
group_by_group      small groups at one look (_knn.clouds), others by _knn.find: in turn, or one a worker
      |
derivatives         distances, and all their derivatives of every order

found               Neighbors: distances, indices, values gathered at them
graph               the found pairs as edge_index, SciPy or torch CSR
progress            a bar that reads the report of a search that runs

radius              all neighbours within a radius, ragged; and the nearest of them

affine              sums of affine maps over the pairs, for PiecewiseLinear
"""
