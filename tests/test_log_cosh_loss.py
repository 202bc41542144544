"""The log cosh loss keeps the conventions of torch.nn's losses."""

from __future__ import annotations

import math
import random

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
    for a, b in ((prediction.half(), target), (prediction.half(), target.half()), (target.long(), target.byte())):
        torch.testing.assert_close(compiled(a, b), LogCoshLoss()(a, b))


INTEGERS = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)


def true_loss(gap: int | float) -> float:
    return abs(gap) + math.log1p(math.exp(-2 * abs(gap))) - math.log(2) if abs(gap) > 1e-3 else gap * gap / 2


def limits(dtype: torch.dtype) -> tuple[int, int]:
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


@pytest.mark.parametrize("other", INTEGERS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_differences_of_integers_never_wrap(dtype: torch.dtype, other: torch.dtype) -> None:
    random.seed(0)
    some = [(random.randint(*limits(dtype)), random.randint(*limits(other))) for _ in range(20)]
    some += [(a, b) for a in limits(dtype) for b in limits(other)] + [(0, 5), (3, 4), (100, 101), (127, 127)]
    input, target = (torch.tensor(v, dtype=t) for v, t in zip(zip(*some, strict=True), (dtype, other), strict=True))
    got = log_cosh_loss(input, target, reduction="none")
    assert got.dtype == torch.get_default_dtype()
    torch.testing.assert_close(got, torch.tensor([true_loss(a - b) for a, b in some]), rtol=1e-6, atol=0)


def test_booleans_and_neighbours_beyond_float32_count() -> None:
    assert log_cosh_loss(torch.tensor([True]), torch.tensor([False])) == log_cosh(torch.tensor(1.0))
    big = torch.tensor([2**53 + 1, -(2**60) - 1])
    assert log_cosh_loss(big, big - 1) == log_cosh(torch.tensor(1.0))
    assert log_cosh_loss(big[:1].double() - 1, big[:1]) < 0.44


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("integer", INTEGERS)
def test_an_integer_target_takes_the_dtype_of_the_predictions(integer: torch.dtype, dtype: torch.dtype) -> None:
    most = min(limits(integer)[1], 40000)
    input, target = torch.tensor([0.5, 3.0], dtype=dtype, requires_grad=True), torch.tensor([most, 3], dtype=integer)
    got = log_cosh_loss(input, target)
    assert got.dtype == dtype
    torch.testing.assert_close(got, torch.tensor(true_loss(most - 0.5) / 2, dtype=dtype))
    torch.testing.assert_close(log_cosh_loss(target, input), got)
    got.backward()
    assert input.grad.tolist() == [-0.5, 0.0]


def test_a_float16_mean_that_fits_is_not_lost_on_the_way() -> None:
    many = torch.zeros(1_000_000, dtype=torch.float16)
    assert log_cosh_loss(many + 1, many) == log_cosh(torch.tensor(1.0)).half()
    assert log_cosh_loss(many + 300, many) == 299.25
    many[0] = 60000
    loss = log_cosh_loss(many, -many)  # one difference of 120,000
    assert loss == torch.tensor(119999.306 / 1e6).half()
    assert log_cosh_loss(torch.tensor([70000]), torch.tensor([60000.0]).half()) == torch.tensor(9999.3).half()
    few = torch.tensor([60000.0, 0, 0, 0], dtype=torch.float16, requires_grad=True)
    log_cosh_loss(few, -few.detach()).backward()
    assert few.grad.tolist() == [0.25, 0, 0, 0]
    assert log_cosh_loss(many.bfloat16() + 1, many.bfloat16(), "none").dtype == torch.bfloat16


def test_mixed_floats_promote_as_the_difference_does_and_nothing_has_a_mean() -> None:
    one, other = torch.ones(3), torch.zeros(3, dtype=torch.float64)
    assert log_cosh_loss(one, other).dtype == torch.float64
    assert log_cosh_loss(one.half(), one).dtype == torch.float32
    assert log_cosh_loss(one.half(), one.bfloat16()).dtype == torch.float32
    with pytest.warns(UserWarning, match="target size"):
        assert log_cosh_loss(one.half(), one[0]).dtype == torch.float16
    for dtype in (torch.float16, torch.float32, torch.int64):
        nothing = torch.zeros(0, 3, dtype=dtype)
        assert log_cosh_loss(nothing, nothing).isnan()
        assert log_cosh_loss(nothing, nothing, "sum") == 0
        assert log_cosh_loss(nothing, nothing, "none").shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: log_cosh_loss([1.0], torch.ones(1)), "input must be a torch.Tensor, got list"),
        (lambda: log_cosh_loss(torch.ones(1), 1.0), r"target must be.*got float; wrap it: torch.as_tensor\(target\)"),
        (lambda: log_cosh_loss(torch.ones(1), torch.ones(1).cfloat()), "target must hold real numbers, got torch.comp"),
    ],
)
def test_what_is_no_real_tensor_is_refused_by_name(call: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        call()
