"""Least squares from sums: numpy's solution, the ridge's effect, and explained shares of the variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hkd.models.least_squares import LeastSquares


def centred(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.double().numpy()
    deviations: np.ndarray = array - array.mean(axis=0)
    return deviations


def ridge_regression(inputs: torch.Tensor, outputs: torch.Tensor, start: torch.Tensor, ridge: float) -> np.ndarray:
    """(I, O). Ordinary least squares on centred rows, to which with a = ridge * n * (mean variance of the inputs) the
    rows sqrt(a) I with the outputs sqrt(a) start are added."""
    x, y = centred(inputs), centred(outputs)
    a = ridge * (x**2).sum(axis=0).mean()
    extended_x = np.vstack([x, np.sqrt(a) * np.eye(x.shape[1])])
    extended_y = np.vstack([y, np.sqrt(a) * start.double().numpy().T])
    solution: np.ndarray = np.linalg.lstsq(extended_x, extended_y, rcond=None)[0]
    return solution


def error_on_other_half(inputs: torch.Tensor, outputs: torch.Tensor, start: torch.Tensor, ridge: float | None) -> float:
    """Squared errors of both halves, each by what is fitted to the other; None: by the start with the other's bias."""
    x, y = inputs.double().numpy(), outputs.double().numpy()
    half = len(x) // 2
    error = 0.0
    for fitted, held_out in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        if ridge is None:
            weights = start.double().numpy().T
        else:
            weights = ridge_regression(inputs[fitted], outputs[fitted], start, ridge)
        bias = (y[fitted] - x[fitted] @ weights).mean(axis=0)
        error += ((y[held_out] - x[held_out] @ weights - bias) ** 2).sum()
    return error


@pytest.mark.parametrize(("noise", "chosen"), [(0.1, 0.001), (0.3, 0.01), (1.0, 0.1), (3.0, 1.0), (60.0, None)])
def test_solution_is_that_of_numpy_on_rows_added_in_parts(noise: float, chosen: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -2, 30)
    inputs = torch.randn(101, 30, generator=generator) * scales + 3.0
    outputs = inputs @ torch.randn(30, 2, generator=generator)
    outputs += noise * torch.randn(101, 2, generator=generator)
    start = 0.1 * torch.randn(2, 30, generator=generator)
    squares = LeastSquares(101)
    for part in (slice(0, 20), slice(20, 75), slice(75, 101)):
        squares.add(inputs[part], outputs[part])
    found = squares.solve(start)
    candidates = (None, 10.0, 1.0, 0.1, 0.01, 0.001)
    errors = {ridge: error_on_other_half(inputs, outputs, start, ridge) for ridge in candidates}
    assert found.ridge == chosen == min(candidates, key=errors.__getitem__)
    expected = start.double().numpy().T if chosen is None else ridge_regression(inputs, outputs, start, chosen)
    np.testing.assert_allclose(found.weight.numpy().T, expected, rtol=1e-7, atol=1e-9)
    predicted = inputs.double().numpy() @ expected
    np.testing.assert_allclose(found.bias.numpy(), (outputs.double().numpy() - predicted).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(found.means.numpy(), predicted.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(found.variances.numpy(), predicted.var(axis=0), rtol=1e-7)
    total = (centred(outputs[:50]) ** 2).sum() + (centred(outputs[50:]) ** 2).sum()
    assert found.explained_before == pytest.approx(1 - errors[None] / total)
    assert found.explained == pytest.approx(1 - errors[chosen] / total)


def test_weights_stay_where_nothing_can_be_learned() -> None:
    # Outputs that do not depend on the inputs: whatever is fitted to 50 rows is noise.
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(3, 80)
    squares = LeastSquares(100)
    squares.add(torch.randn(100, 80, generator=generator), torch.randn(100, 3, generator=generator))
    found = squares.solve(start)
    assert found.ridge is None
    assert torch.equal(found.weight, start.double())


def test_weights_of_constant_inputs_stay() -> None:
    inputs = torch.stack([torch.arange(8.0), torch.full((8,), 5.0)], dim=1)
    squares = LeastSquares(8)
    squares.add(inputs, 2 * inputs[:, :1] + 1)
    found = squares.solve(torch.tensor([[0.0, 7.0]]))
    # y = 2 x + 1, so that the smallest ridge predicts each half best from the other. The second input is constant, so
    # that its weight says nothing; the bias makes up for 7 * 5. The ridge is 0.001 times the mean of the squares of
    # both centred inputs (42 and 0): 2 * 42 / (42 + 0.021) = 1.999.
    assert found.weight.tolist() == [[pytest.approx(84 / 42.021), 7.0]]
    assert found.bias.item() == pytest.approx(1 - 35 + (2 - 84 / 42.021) * 3.5)
    # Halves of x in 0 to 3 and 4 to 7: of each, y varies by 20 around its mean, which is 8 from the other's.
    assert found.explained_before == pytest.approx(1 - 2 * (20 + 4 * 8**2) / (2 * 20))


def test_constant_outputs_give_finite_numbers() -> None:
    squares = LeastSquares(4)
    squares.add(torch.zeros(4, 2), torch.ones(4, 3))
    found = squares.solve(torch.ones(3, 2))
    assert found.weight.tolist() == [[1.0, 1.0]] * 3
    assert found.bias.tolist() == [1.0] * 3
    assert (found.explained_before, found.explained) == (0.0, 0.0)


def test_bias_of_a_single_row_is_fitted() -> None:
    squares = LeastSquares(1)
    squares.add(torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0]]))
    found = squares.solve(torch.tensor([[3.0, 1.0]]))
    assert found.weight.tolist() == [[3.0, 1.0]]
    assert found.bias.tolist() == [5.0]  # 10 - (3 + 2)
