"""Least squares from sums: numpy's solution, the ridge's effect, and explained shares of the variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hkd.models.least_squares import LeastSquares


def test_solution_is_that_of_numpy_on_rows_added_in_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 5, generator=generator) + 3.0
    outputs = inputs @ torch.randn(5, 2, generator=generator) + torch.randn(200, 2, generator=generator)
    start = torch.randn(2, 5, generator=generator)
    squares = LeastSquares()
    for part in (slice(0, 150), slice(150, 200)):
        squares.add(inputs[part], outputs[part])
    found = squares.solve(start)
    # Ridge regression on centred rows as ordinary least squares: with a = 0.001 * n * (mean variance of the inputs),
    # the rows sqrt(a) I with the outputs sqrt(a) start are added.
    x, y = (values.double().numpy() - values.double().numpy().mean(axis=0) for values in (inputs, outputs))
    a = 1e-3 * (x**2).sum(axis=0).mean()
    extended_x = np.vstack([x, np.sqrt(a) * np.eye(5)])
    extended_y = np.vstack([y, np.sqrt(a) * start.double().numpy().T])
    expected = np.linalg.lstsq(extended_x, extended_y, rcond=None)[0]
    np.testing.assert_allclose(found.weight.numpy().T, expected, rtol=1e-9)
    predicted = inputs.double().numpy() @ expected
    np.testing.assert_allclose(found.bias.numpy(), (outputs.double().numpy() - predicted).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.means.numpy(), predicted.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.variances.numpy(), predicted.var(axis=0), rtol=1e-9)
    for weights, share in ((expected, found.explained), (start.double().numpy().T, found.explained_before)):
        assert share == pytest.approx(1 - ((y - x @ weights) ** 2).sum() / (y**2).sum())
    assert found.explained_before < found.explained < 1


def test_weights_of_constant_inputs_stay() -> None:
    inputs = torch.stack([torch.arange(8.0), torch.full((8,), 5.0)], dim=1)
    squares = LeastSquares()
    squares.add(inputs, 2 * inputs[:, :1] + 1)
    found = squares.solve(torch.tensor([[0.0, 7.0]]))
    # y = 2 x + 1. The second input is constant, so that its weight says nothing; the bias makes up for 7 * 5. The ridge
    # is 0.001 times the mean of the squares of both centred inputs (42 and 0): 2 * 42 / (42 + 0.021) = 1.999.
    assert found.weight.tolist() == [[pytest.approx(84 / 42.021), 7.0]]
    assert found.bias.item() == pytest.approx(1 - 35 + (2 - 84 / 42.021) * 3.5)
    assert found.explained_before == 0.0


def test_constant_outputs_give_finite_numbers() -> None:
    squares = LeastSquares()
    squares.add(torch.zeros(4, 2), torch.ones(4, 3))
    found = squares.solve(torch.ones(3, 2))
    assert found.weight.tolist() == [[1.0, 1.0]] * 3
    assert found.bias.tolist() == [1.0] * 3
    assert (found.explained_before, found.explained) == (0.0, 0.0)
