"""Class statistics: a von Mises–Fisher density per weak class, and the consistency loss drawn from it.

A von Mises–Fisher density on the unit sphere of R^p is C_p(κ) e^{κ μ·x}: mean direction μ, concentration κ. OLIVINE
collects them as moving averages of 3-D features during the first T steps, then pulls the features of each class
towards the collected directions. Letters: C classes, D = p feature size, P pairs.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, distributed, nn

from olivine.config import Config

MAX_KAPPA = 1e4
"""Largest concentration: beyond it all features of a class are one point (in 64 dimensions 1 − R < 0.0032)."""

_UNIFORM_ORDER = 48.0  # from this order on, ten terms of the uniform expansion are exact to double precision


def vmf_log_normalizer(kappa: Tensor | float, dim: int) -> Tensor:
    """Logarithm of the normaliser of a von Mises–Fisher density, in any dimension and at any concentration.

    `log C_p(κ) = ν log κ − (p/2) log 2π − log I_ν(κ)`, ν = p/2 − 1, with I the modified Bessel function. It is
    evaluated as −(p/2) log 2π − log J_ν(κ), J_ν(κ) = κ^−ν I_ν(κ), which is smooth at κ = 0: J is taken from Olver's
    expansion (DLMF 10.41.3), uniform in κ, at orders large enough for it to be exact, and brought down to ν by the
    recurrence J_{ν−1} = 2ν J_ν + κ² J_{ν+1}, stable in that direction.

    Args:
        kappa: concentrations ≥ 0, any shape.
        dim: p ≥ 2, dimension of the space in which the sphere lies.

    Returns:
        float64 of the shape of `kappa`, accurate to about 1e-12, differentiable in `kappa`.

    Raises:
        ValueError: `dim` is below 2.
    """
    if dim < 2:
        raise ValueError(f"a von Mises–Fisher density needs dim ≥ 2, not {dim}")
    kappa = torch.as_tensor(kappa, dtype=torch.float64)
    nu = dim / 2 - 1
    order = nu + max(0, math.ceil(_UNIFORM_ORDER - nu))
    log_j = _log_scaled_bessel(kappa, order)
    ratio = torch.exp(_log_scaled_bessel(kappa, order + 1) - log_j)
    while order > nu:
        step = 2 * order + kappa**2 * ratio
        log_j, ratio, order = log_j + step.log(), 1 / step, order - 1
    return -(dim / 2) * math.log(2 * math.pi) - log_j


def vmf_concentration(resultant: Tensor, dim: int) -> Tensor:
    """Concentration κ = R (p − R²) / (1 − R²) of a mean resultant length R (Banerjee et al., 2005).

    Args:
        resultant: lengths R in 0…1, any shape; R → 1 gives `MAX_KAPPA`, also where rounding carries R beyond 1.
        dim: p, dimension of the space.
    """
    spread = (1 - resultant**2).clamp_min(torch.finfo(resultant.dtype).eps)
    return (resultant * (dim - resultant**2) / spread).clamp(max=MAX_KAPPA)


def class_means(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of every class, in one matrix product.

    Args:
        features: [P, D] features.
        labels: [P] integer labels; one that is no class index (255 unknown) takes no part.
        classes: C.

    Returns:
        `(means, counts)`: [C, D] float32 or wider, 0 for a class without features, and [C] int64.
    """
    member = labels[:, None] == torch.arange(classes, device=labels.device)
    counts = member.sum(0)
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        sums = member.to(dtype).T @ features.to(dtype)
    return sums / counts.clamp_min(1)[:, None], counts


class VmfConfig(Config):
    """How class statistics are collected and when they start to teach."""

    alpha: float = Field(default=1e-4, gt=0, le=1)
    """Weight of a step's class mean in the moving average."""
    warmup: int = Field(default=10_000, ge=0)
    """The last step T in which statistics are collected and the loss is zero. Steps count from 0, so that this makes
    T + 1 updates, as published."""
    warmup_fraction: float | None = Field(default=None, gt=0, lt=1)
    """T as a fraction of all steps, for runs too short for `warmup`; takes its place where given."""
    estimator: Literal["reference", "debiased"] = "reference"
    """`reference`: the average as it is, starting from 0, which after 1/α steps carries 0.632 of its mass and bounds κ
    by 67 in 64 dimensions; this sets the published weight of the loss. `debiased`: divided by that mass."""
    continue_updates: bool = False
    """Go on collecting after T; otherwise directions and concentrations stay as they were at T."""

    def warmup_steps(self, total_steps: int) -> int:
        """T in steps, for a run of `total_steps`."""
        return self.warmup if self.warmup_fraction is None else max(1, round(self.warmup_fraction * total_steps))


class ClassStatistics(nn.Module):
    """Mean direction and concentration of every class, collected over steps and processes.

    Only the moving averages are state; μ and κ follow from them. The averages are float64, since steps of α = 1e-4
    come near the resolution of float32.

    Args:
        classes: C, number of weak classes.
        dim: D, feature size.
        config: how to collect.

    Attributes:
        z: [C, D] float64 moving average of the class means, 0 for a class never seen.
        updates: [C] int64 steps in which any process saw the class.
        active: the loss is on (step > T).
        collecting: `update` has an effect (step ≤ T, or `continue_updates`).
    """

    z: Tensor
    updates: Tensor

    def __init__(self, classes: int, dim: int, config: VmfConfig) -> None:
        super().__init__()
        self.config = config
        self.active = False
        self.collecting = True
        self.register_buffer("z", torch.zeros(classes, dim, dtype=torch.float64))
        self.register_buffer("updates", torch.zeros(classes, dtype=torch.int64))

    def set_progress(self, step: int, total_steps: int) -> None:
        """Told before each step: `step` are done of `total_steps`."""
        self.active = step > self.config.warmup_steps(total_steps)
        self.collecting = not self.active or self.config.continue_updates

    def kappa(self) -> Tensor:
        """[C] float64 concentration of each class, 0 for a class never seen."""
        return vmf_concentration(self.resultant(), self.z.shape[1])

    def resultant(self) -> Tensor:
        """[C] float64 mean resultant length R in 0…1 of each class, as `config.estimator` takes it; 0 if never seen."""
        length: Tensor = self._average().norm(dim=1)
        return length

    def directions(self) -> Tensor:
        """[C, D] float64 unit mean direction μ of each class, 0 for a class never seen."""
        return nn.functional.normalize(self.z, dim=1)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Fold one step's features into the averages: z_c ← (1 − α) z_c + α · mean of the class.

        The mean is over the processes that saw the class, each with its own mean over its pairs; a class that none
        saw is left as it is. Costs one reduction; every process must call it at every step, also without pairs.

        Args:
            features: [P, D] class-level 3-D features, L2-normalised.
            labels: [P] integer weak labels, 255 unknown.
        """
        if not self.collecting:
            return
        means, counts = class_means(features, labels, len(self.z))
        packed = torch.cat([means.to(self.z.dtype), (counts > 0).to(self.z.dtype)[:, None]], dim=1)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(packed)
        processes = packed[:, -1:]
        seen = processes > 0
        towards = packed[:, :-1] / processes.clamp_min(1) - self.z
        self.z += self.config.alpha * (towards * seen)
        self.updates += seen[:, 0]

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """L_vmf: mean over the classes present of −log C_p(κ_c) − κ_c · mean_{i∈c} μ_c·k_i.

        Only the last term has a gradient. A class is present if this batch holds a pair of it and the statistics have
        seen it.

        Args:
            features: [P, D] class-level 3-D features, L2-normalised.
            labels: [P] integer weak labels, 255 unknown.

        Returns:
            Scalar, float32 or wider; 0 (with a graph) through step T and where no class is present.
        """
        dtype = torch.promote_types(features.dtype, torch.float32)
        if not self.active:
            return features.sum().to(dtype) * 0.0
        means, counts = class_means(features, labels, len(self.z))
        present = (counts > 0) & (self.updates > 0)
        kappa = self.kappa()
        alignment = (self.directions() * means).sum(1)
        per_class = -vmf_log_normalizer(kappa, self.z.shape[1]) - kappa * alignment
        return ((per_class * present).sum() / present.sum().clamp_min(1)).to(dtype)

    def _average(self) -> Tensor:
        """[C, D] the averages as the estimator takes them."""
        if self.config.estimator == "reference":
            return self.z
        mass = 1 - (1 - self.config.alpha) ** self.updates.to(self.z.dtype)
        return self.z / mass.clamp_min(self.config.alpha)[:, None]


def _log_scaled_bessel(kappa: Tensor, order: float) -> Tensor:
    """log(κ^−ν I_ν(κ)) at a large order ν, by Olver's uniform expansion with z = κ/ν."""
    root = torch.sqrt(1 + (kappa / order) ** 2)
    p = 1 / root
    series = torch.zeros_like(kappa)
    for polynomial in reversed(_olver_polynomials(10)):
        value = torch.zeros_like(kappa)
        for coefficient in reversed(polynomial):
            value = value * p + coefficient
        series = series / order + value
    leading = order * (root - torch.log(order * (1 + root)))
    return leading - 0.5 * math.log(2 * math.pi * order) - 0.5 * torch.log(root) + series.log()


@cache
def _olver_polynomials(count: int) -> tuple[tuple[float, ...], ...]:
    """Coefficients (constant first) of the polynomials U_0…U_count of the uniform expansion.

    U_{k+1}(p) = ½ p² (1 − p²) U_k'(p) + ⅛ ∫₀^p (1 − 5t²) U_k(t) dt, U_0 = 1 (DLMF 10.41.9), in exact fractions.
    """
    polynomials = [[Fraction(1)]]
    for _ in range(count):
        following = [Fraction(0)] * (len(polynomials[-1]) + 3)
        for power, coefficient in enumerate(polynomials[-1]):
            following[power + 1] += coefficient * (Fraction(power, 2) + Fraction(1, 8 * (power + 1)))
            following[power + 3] -= coefficient * (Fraction(power, 2) + Fraction(5, 8 * (power + 3)))
        polynomials.append(following)
    return tuple(tuple(float(coefficient) for coefficient in polynomial) for polynomial in polynomials)
