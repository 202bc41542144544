"""Nearest neighbours as estimators of scikit-learn (the extra `sklearn`): the map.

estimators   NearestNeighbors, KNeighborsTransformer, RadiusNeighborsTransformer: their arguments
searches     fit, kneighbors, radius_neighbors and their graphs, which the three share
checked      what is given, arrays, data frames or tensors, and the answer in kind
metrics      scikit-learn's names of metrics, and which of ours each is
"""

from janelia_core.extras import import_extra

import_extra("sklearn", "sklearn")

from janelia_core.sklearn.estimators import KNeighborsTransformer as KNeighborsTransformer  # noqa: E402
from janelia_core.sklearn.estimators import NearestNeighbors as NearestNeighbors  # noqa: E402
from janelia_core.sklearn.estimators import RadiusNeighborsTransformer as RadiusNeighborsTransformer  # noqa: E402
