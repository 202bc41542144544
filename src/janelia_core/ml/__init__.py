"""Machine-learning functions: nearest centres and log cosh."""

from janelia_core.ml._log_cosh import log_cosh
from janelia_core.ml._log_cosh_loss import log_cosh_loss
from janelia_core.ml.modules import LogCoshLoss, NearestCenters, PiecewiseLinear
from janelia_core.ml.neighbors import Neighbors, knn

__all__ = ["LogCoshLoss", "NearestCenters", "Neighbors", "PiecewiseLinear", "knn", "log_cosh", "log_cosh_loss"]
