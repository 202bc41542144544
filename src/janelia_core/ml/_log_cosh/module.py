"""The loss as a torch.nn module."""

from __future__ import annotations

from torch import Tensor, nn

from janelia_core.ml._log_cosh.loss import Reduction, check_reduction, log_cosh_loss


class LogCoshLoss(nn.Module):
    """The mean (or sum) of log(cosh(input - target)).

    Args:
        reduction: "mean", "sum" or "none", as for `torch.nn.MSELoss`.

    Raises:
        ValueError: The reduction is unknown.

    Example:
        >>> import torch
        >>> LogCoshLoss()(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0]))
        tensor(0.6625)
    """

    __constants__ = ["reduction"]  # noqa: RUF012

    reduction: Reduction

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of predictions `input` against `target`."""
        return log_cosh_loss(input, target, self.reduction)

    def extra_repr(self) -> str:
        """Return the reduction, for `print(module)`."""
        return f"reduction={self.reduction!r}"
