"""The log cosh loss keeps the conventions of torch.nn's losses."""

from __future__ import annotations

import pytest
import torch

from janelia_core.ml import LogCoshLoss, log_cosh, log_cosh_loss


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_each_reduction_reduces_log_cosh_of_the_difference(reduction: str) -> None:
    prediction, target = torch.randn(2, 5, 4, dtype=torch.float64)
    losses = torch.log(torch.cosh(prediction - target))
    right = losses if reduction == "none" else getattr(losses, reduction)()
    torch.testing.assert_close(log_cosh_loss(prediction, target, reduction=reduction), right)
    torch.testing.assert_close(LogCoshLoss(reduction=reduction)(prediction, target), right)


def test_the_mean_is_the_default() -> None:
    prediction, target = torch.randn(2, 9)
    assert log_cosh_loss(prediction, target) == log_cosh(prediction - target).mean()
    assert repr(LogCoshLoss()) == "LogCoshLoss(reduction='mean')"


def test_both_arguments_get_their_gradient() -> None:
    prediction = torch.randn(6, dtype=torch.float64, requires_grad=True)
    target = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LogCoshLoss(), (prediction, target))


def test_broadcasting_warns_as_torch_does() -> None:
    prediction, target = torch.randn(4, 3), torch.randn(3)
    with pytest.warns(UserWarning, match="target size") as ours:
        y = log_cosh_loss(prediction, target, reduction="none")
    with pytest.warns(UserWarning, match="target size") as theirs:
        torch.nn.functional.mse_loss(prediction, target)
    assert str(ours[0].message) == str(theirs[0].message)
    assert ours[0].filename == __file__
    assert y.shape == (4, 3)


@pytest.mark.parametrize("make", [lambda r: LogCoshLoss(r), lambda r: log_cosh_loss(torch.ones(1), torch.ones(1), r)])
def test_an_unknown_reduction_is_refused_by_name(make: object) -> None:
    with pytest.raises(ValueError, match="reduction must be one of mean, sum, none; got 'max'"):
        make("max")


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_module_compiles_whole() -> None:
    prediction, target = torch.randn(2, 50)
    compiled = torch.compile(LogCoshLoss(), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(prediction, target), LogCoshLoss()(prediction, target))
