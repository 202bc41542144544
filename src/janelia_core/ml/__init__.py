"""Machine-learning functions, nearest centres and log cosh: the map.

From the top down::

    extra_torch_functions   the functions knn_mc, knn_do, log_cosh; LOG_2
    neighbors               the functions knn, radius, radius_count, and their graphs
    index                   CenterIndex: the same among kept centres
    modules                 the same as torch.nn.Module
    distributed             the same where processes share out the centres
    warming                 kernels compiled beforehand
          |
    _distributed            what those processes say to each other
    _index                  kept centres
    _neighbors              neighbours as a differentiable operation
          |
    _knn                    the search for their indices        _log_cosh: the function and its derivatives
          |
    _index                  centres kept between calls: their file
    _simd                   pieces of kernels                   _runtime: what this process can do; threads
    _ordinary               what every function wants of a tensor
"""

from janelia_core.ml._log_cosh.function import log_cosh
from janelia_core.ml._log_cosh.loss import log_cosh_loss
from janelia_core.ml.index import CenterIndex
from janelia_core.ml.modules import LogCoshLoss, NearestCenters, PiecewiseLinear
from janelia_core.ml.neighbors import Neighbors, RadiusNeighbors, knn, radius, radius_count

__all__ = [
    "CenterIndex",
    "LogCoshLoss",
    "NearestCenters",
    "Neighbors",
    "PiecewiseLinear",
    "RadiusNeighbors",
    "knn",
    "log_cosh",
    "log_cosh_loss",
    "radius",
    "radius_count",
]
