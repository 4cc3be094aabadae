"""A Gaussian process on the measured objective over encoded settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

Floats = NDArray[np.float64]

MOST_FITTED = 100
"""Results from which hyperparameters are estimated: one evaluation of their likelihood takes 5 ms."""
_LENGTH_SCALES = (0.05, 1e3)
_NOISE = (1e-6, 1.0)
_JITTER = 1e-8


@dataclass(frozen=True)
class Hyperparameters:
    """Of a process with unit variance."""

    length_scales: tuple[float, ...]
    """Of each input."""
    noise: float
    """Variance of an observation: of the results of one configuration with several seeds."""
    scale: tuple[float, float] | None = None
    """Mean and standard deviation of the values that these were estimated from: the process describes values scaled
    with them. None: those of the values given to the process."""


class Surrogate:
    """Posterior of a Gaussian process with a Matern 5/2 kernel and a length scale for each input.

    The process describes values of zero mean and unit variance; those given are scaled to that. Equal rows are
    repeated observations.

    Args:
        inputs: (N, D), N at least 1.
        values: (N,) finite.
        variances: (N,) of each value beside the noise of an observation; by default none.
        scale: Mean and standard deviation for scaling; by default those of the hyperparameters.
    """

    def __init__(
        self,
        inputs: Floats,
        values: Floats,
        hyperparameters: Hyperparameters,
        scale: tuple[float, float] | None = None,
        variances: Floats | None = None,
    ) -> None:
        self._inputs, self._values, self._hyperparameters = inputs, values, hyperparameters
        self._variances = np.zeros(len(values)) if variances is None else variances
        self._scale = scale or hyperparameters.scale or scaling(values)
        mean, std = self._scale
        kernel = Matern(np.array(hyperparameters.length_scales), nu=2.5)
        # As alpha and not as a kernel: predicted deviations are then those of the process, without the noise of a seed.
        noise = hyperparameters.noise + _JITTER + self._variances / std**2
        self._process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        self._process.fit(inputs, (values - mean) / std)

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (N,) at N inputs, without the noise of an observation."""
        mean, std = self._scale
        predicted, deviation = self._process.predict(inputs, return_std=True)
        return predicted * std + mean, deviation * std

    def means(self, inputs: Floats) -> Floats:
        """The means of :meth:`predict`, which take half the time."""
        mean, std = self._scale
        return np.asarray(self._process.predict(inputs) * std + mean, dtype=np.float64)

    def with_expected(self, inputs: Floats) -> Surrogate:
        """As if the results at these inputs were known to be those expected: means stay, deviations shrink."""
        if not len(inputs):
            return self
        values = np.append(self._values, self.means(inputs))
        variances = np.append(self._variances, np.zeros(len(inputs)))
        return Surrogate(np.vstack([self._inputs, inputs]), values, self._hyperparameters, self._scale, variances)


def scaling(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation; 1 instead of a deviation of 0."""
    std = float(values.std())
    return float(values.mean()), std if std > 1e-12 else 1.0


def estimated_hyperparameters(inputs: Floats, values: Floats) -> Hyperparameters:
    """Maximum a posteriori hyperparameters of results in the order in which they arrived.

    Estimated again when the number of results has grown by an eighth, and from ``MOST_FITTED`` evenly spaced ones at
    most. They depend on the results alone, so that a process that resumes a study finds the same.
    """
    count = 1
    while (following := count + max(1, count // 8)) <= len(values):
        count = following
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_FITTED)).round().astype(int))
    inputs, values = inputs[chosen], values[chosen]
    return _estimated(inputs.tobytes(), values.tobytes(), inputs.shape[1])


@lru_cache(maxsize=64)
def _estimated(inputs_bytes: bytes, values_bytes: bytes, num_inputs: int) -> Hyperparameters:
    inputs, values = np.frombuffer(inputs_bytes).reshape(-1, num_inputs), np.frombuffer(values_bytes)
    mean, std = scaling(values)
    kernel = Matern(np.ones(num_inputs), nu=2.5) + WhiteKernel(0.05)
    process = GaussianProcessRegressor(kernel, alpha=_JITTER, optimizer=None).fit(inputs, (values - mean) / std)
    # Log-normal. Length scales: about the range of a setting; a prior of longer ones (Hvarfner et al., ICML 2024) took
    # settings whose best value is in the middle of their range for settings without influence. Noise: about 2 % of the
    # variance of all results.
    centers = np.append(np.zeros(num_inputs), -4.0)
    widths = np.ones(num_inputs + 1)

    def negative_log_posterior(theta: Floats) -> tuple[float, Floats]:
        likelihood, gradient = process.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        z = (theta - centers) / widths
        return float(0.5 * (z**2).sum() - likelihood), z / widths - gradient

    bounds = [tuple(np.log(_LENGTH_SCALES))] * num_inputs + [tuple(np.log(_NOISE))]
    found = minimize(
        negative_log_posterior, centers, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}
    ).x
    return Hyperparameters(tuple(np.exp(found[:-1]).tolist()), float(np.exp(found[-1])), (mean, std))
