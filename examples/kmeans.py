"""k-means in twenty lines: exact assignments, no distance matrix, the same clusters on every device and machine.

k-means++ draws each new centre with a chance in proportion to the squared distance to the nearest centre so far;
Lloyd's iterations then move every centre to the mean of its points, until no point changes its centre.
"""

import torch

from janelia_core.ml import knn


def k_means(x, k):
    ctrs = x[torch.randint(len(x), (1,))]
    squares = torch.full((len(x),), torch.inf, dtype=x.dtype)
    while len(ctrs) < k:
        squares = squares.minimum(knn(x, ctrs[-1:], metric="sqeuclidean").distances[:, 0])
        ctrs = torch.cat([ctrs, x[squares.multinomial(1)]])
    members = None
    for _ in range(1000):  # rounding of the means might let it go round in a circle
        before, (squares, nearest) = members, knn(x, ctrs, metric="sqeuclidean")
        members = nearest[:, 0]
        print(f"mean squared distance {squares.mean():.4f}")
        if before is not None and torch.equal(members, before):
            break
        sums = torch.zeros_like(ctrs).index_add_(0, members, x)
        counts = members.bincount(minlength=k)[:, None]
        ctrs = torch.where(counts > 0, sums / counts, ctrs)
    return ctrs, members


torch.manual_seed(0)
middles = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [6.0, 6.0], [3.0, 3.0]], dtype=torch.float64)
x = middles.repeat(4000, 1) + torch.randn(20_000, 2, dtype=torch.float64)
ctrs, members = k_means(x, k=5)
print("centre, points:")
for ctr, count in zip(ctrs.tolist(), members.bincount().tolist(), strict=True):
    print(f"{ctr[0]:6.2f} {ctr[1]:6.2f} {count:6d}")
