"""The equivariant core that message-passing potentials share: couplings, spherical harmonics, linear maps, radial bases.

Features are a tuple with one array per entry of an `Irreps`, each (..., 2l + 1, multiplicity): channels run fastest, so
that every contraction is a plain matrix product or an elementwise product over contiguous channels.
Conventions are e3nn's: real harmonics, l = 1 in the order x, y, z, "component" normalisation (Σ_m Y_lm² = 2l + 1).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pytree import Array


Features = tuple["Array", ...]
MAX_L = (
    10  # of a model that is read from a file; published ones have 4 at most, and couplings take a time of l⁴ to make
)


class MulIrrep(NamedTuple):
    """`mul` copies of the irreducible representation of O(3) with angular momentum l and parity p = ±1."""

    mul: int
    l: int
    p: int

    @property
    def dim(self) -> int:
        return 2 * self.l + 1


Irreps = tuple[MulIrrep, ...]


class Constant:
    """A table of numbers that belongs to a model's configuration: compared and hashed by its bytes.

    Configurations key compilation, so that they must compare by value; hashing is done once.
    """

    __slots__ = ("_digest", "array")

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.ascontiguousarray(array)
        self.array.flags.writeable = False
        head = f"{self.array.dtype.str}{self.array.shape}".encode()
        self._digest = hashlib.sha256(head + self.array.tobytes()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def description(self) -> str:
        """The same in every process for equal tables."""
        return self._digest.hex()

    def __repr__(self) -> str:
        return f"Constant{self.array.shape}"


def _complex_coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """⟨l1 m1 l2 m2 | l3 m3⟩ by Racah's formula, in exact integers up to the last square root. (2l1+1, 2l2+1, 2l3+1)"""
    f = math.factorial
    out = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            m3 = m1 + m2
            low, high = max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2)
            total = 0.0
            for k in range(low, high + 1):
                lower = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k)
                lower *= f(l2 + m2 - k) * f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k)
                total += (-1) ** k / lower
            square = (2 * l3 + 1) * f(l1 + l2 - l3) * f(l1 - l2 + l3) * f(-l1 + l2 + l3) / f(l1 + l2 + l3 + 1)
            square *= math.prod(f(l + s * m) for l, m in ((l1, m1), (l2, m2), (l3, m3)) for s in (1, -1))
            out[l1 + m1, l2 + m2, l3 + m3] = math.sqrt(square) * total
    return out


def _real_from_complex(l: int) -> np.ndarray:
    """Unitary U with (real harmonic)_a = Σ_m U[a, m] (complex harmonic)_m, up to a phase. (2l + 1, 2l + 1)"""
    U = np.zeros((2 * l + 1, 2 * l + 1), complex)
    U[l, l] = 1
    for m in range(1, l + 1):
        U[l + m, l + m], U[l + m, l - m] = (-1) ** m / math.sqrt(2), 1 / math.sqrt(2)
        U[l - m, l + m], U[l - m, l - m] = -1j * (-1) ** m / math.sqrt(2), 1j / math.sqrt(2)
    return U


@functools.cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """The invariant of l1 ⊗ l2 ⊗ l3 in the real basis, of Frobenius norm 1. (2l1+1, 2l2+1, 2l3+1)

    Signs are those of e3nn 0.4.4, which trained models depend on where l1 + l2 + l3 is odd: for l1 ≤ l2 ≤ l3 the element
    in the middle is positive, or the first that is not zero; a permutation of the three gives (−1)^(l1+l2+l3) when odd.
    """
    order = sorted(range(3), key=lambda k: (l1, l2, l3)[k])
    a, b, c = sorted((l1, l2, l3))
    if c > a + b:
        raise ValueError(f"angular momenta {l1}, {l2}, {l3} do not couple")
    coupling = np.einsum(
        "pqr,ap,bq,cr->abc",
        _complex_coupling(a, b, c),
        _real_from_complex(a),
        _real_from_complex(b),
        _real_from_complex(c).conj(),
    )
    real, imaginary = coupling.real, coupling.imag
    values = real if np.abs(real).max() > np.abs(imaginary).max() else imaginary
    values = np.where(np.abs(values) < 1e-13, 0.0, values) / np.linalg.norm(values)
    middle = values[a, b, c]
    values = values * np.sign(middle if middle != 0 else values.ravel()[np.flatnonzero(values)[0]])
    if (a + b + c) % 2 and order in ([0, 2, 1], [1, 0, 2], [2, 1, 0]):
        values = -values
    values = np.transpose(values, np.argsort(order))
    values.flags.writeable = False
    return values


def monomials(degree: int) -> list[tuple[int, int, int]]:
    """Exponents of x, y, z in all monomials of a degree."""
    return [(i, j, degree - i - j) for i in range(degree, -1, -1) for j in range(degree - i, -1, -1)]


@functools.cache
def harmonic_polynomials(l: int) -> np.ndarray:
    """Y_l as homogeneous polynomials on the unit sphere: rows are `monomials(l)`. (number of monomials, 2l + 1)

    By the recursion Y_l ∝ w3j(l−1, 1, l) · Y_{l−1} ⊗ Y_1, whose sign and norm are fixed by the component
    normalisation and the sign convention of `wigner_3j`.
    """
    if l == 0:
        return np.ones((1, 1))
    if l == 1:
        return math.sqrt(3) * np.eye(3)
    lower, rows = harmonic_polynomials(l - 1), {e: k for k, e in enumerate(monomials(l))}
    product = np.zeros((len(rows), 2 * l - 1, 3))
    for row, exponents in enumerate(monomials(l - 1)):
        for axis in range(3):
            i, j, k = (e + (a == axis) for a, e in enumerate(exponents))
            product[rows[i, j, k], :, axis] += lower[row]
    Y = np.einsum("kma,man->kn", product, wigner_3j(l - 1, 1, l))
    x = np.array([0.36, 0.48, 0.8])
    values = np.prod(x ** np.array(monomials(l)), axis=1) @ Y
    return Y * math.sqrt((2 * l + 1) / np.sum(values**2))


def direction_monomials(degree: int, unit: Array) -> Array:
    """All monomials of the components of unit vectors up to a degree, in the order of `monomials`. (E, 3) -> (E, K)"""
    exponents = np.array([e for d in range(degree + 1) for e in monomials(d)])
    if degree == 0:
        return jnp.ones((unit.shape[0], 1), unit.dtype)
    powers = [unit]
    for _ in range(degree - 1):
        powers.append(powers[-1] * unit)
    # One product with a table of zeros and ones picks the powers: few kernels, which compile quickly. The power 0 is added
    # as a row: XLA multiplies a column of ones, or its tangent, with the table of all edges while it compiles, for seconds.
    pick = np.arange(1, degree + 1)[:, None, None] == exponents.T  # (power, axis, monomial)
    pick = (pick[:, :, None] & np.eye(3, dtype=bool)[:, :, None]).reshape(3 * degree, -1)
    picked = jnp.concatenate(powers, axis=-1) @ jnp.asarray(pick, unit.dtype)
    x, y, z = jnp.split(picked + (exponents.T == 0).ravel().astype(unit.dtype), 3, axis=-1)
    return x * y * z


@functools.cache
def harmonic_table(degree: int, ls: tuple[int, ...]) -> np.ndarray:
    """Y_l for every l of a list from `direction_monomials(degree, …)`: monomials @ table. (K, Σ (2l + 1))

    Polynomials, so that no direction is special to any derivative.
    """
    first = np.cumsum([0] + [len(monomials(d)) for d in range(degree + 1)])
    columns = []
    for l in ls:
        block = np.zeros((first[-1], 2 * l + 1))
        block[first[l] : first[l + 1]] = harmonic_polynomials(l)
        columns.append(block)
    return np.concatenate(columns, axis=1)


def spherical_harmonics(ls: tuple[int, ...], unit: Array) -> Array:
    """Y_l of unit vectors, component-normalised, for every l of a list. (E, 3) -> (E, Σ (2l + 1))"""
    return direction_monomials(max(ls), unit) @ jnp.asarray(harmonic_table(max(ls), tuple(ls)), unit.dtype)


class Path(NamedTuple):
    """One block of an equivariant linear map: out[target] += scale · in[source] W."""

    source: int
    target: int
    shape: tuple[int, int]
    scale: float


@dataclasses.dataclass(frozen=True)
class Linear:
    """An equivariant linear map (e3nn's `o3.Linear`): channels mix within each irrep, components do not.

    Weights are the blocks of `paths`, flat and in this order; `biases` lists the targets that have one, scalars only.
    """

    paths: tuple[Path, ...]
    out: Irreps
    biases: tuple[int, ...] = ()

    def __call__(self, weight: Array, features: Features, bias: Array | None = None) -> Features:
        sizes = [math.prod(path.shape) for path in self.paths]
        # scales go onto all weights at once, and sources of one target into one product: few and large kernels
        weight = weight * (
            np.repeat([path.scale for path in self.paths], sizes) if len(self.scales) > 1 else self.scale
        )
        blocks = jnp.split(weight, np.cumsum(sizes)[:-1]) if sizes else []
        results: list[Array] = []
        offset = 0
        for target, irrep in enumerate(self.out):
            chosen = [k for k, path in enumerate(self.paths) if path.target == target]
            if not chosen:
                results.append(jnp.zeros((*features[0].shape[:-2], irrep.dim, irrep.mul), features[0].dtype))
                continue
            x = jnp.concatenate([features[self.paths[k].source] for k in chosen], axis=-1)
            value = x @ jnp.concatenate([blocks[k] for k in chosen]).reshape(x.shape[-1], irrep.mul)
            if bias is not None and target in self.biases:
                value = value + bias[offset : offset + irrep.mul]
                offset += irrep.mul
            results.append(value)
        return tuple(results)

    @property
    def scales(self) -> set[float]:
        return {path.scale for path in self.paths}

    @property
    def scale(self) -> float:
        return next(iter(self.scales), 1.0)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}
#: 1/√⟨f(z)²⟩ as e3nn estimates it (a million random numbers of a fixed seed); 0.16 % off the exact value for silu
ACTIVATION_NORMS = {"silu": 1.6791767923989418, "tanh": 1.5937334472592695, "sigmoid": 1.8467055342154763}


def bessel(x: Array, wave_numbers: Array, prefactor: Array) -> Array:
    """prefactor · sin(k x)/x for positive x. (E, K)"""
    return prefactor * jnp.sin(x[:, None] * wave_numbers) / x[:, None]


def polynomial_cutoff(x: Array, r_max: Array | float, p: int) -> Array:
    """1 − (p+1)(p+2)/2 u^p + p(p+2) u^(p+1) − p(p+1)/2 u^(p+2) with u = x/r_max, and zero for u ≥ 1.

    Its first p − 1 derivatives vanish at 0, its first two at r_max.
    """
    u = x / r_max
    inside = u < 1
    u = jnp.where(inside, u, 1.0)
    power = u**p
    value = 1 - 0.5 * (p + 1) * (p + 2) * power + p * (p + 2) * power * u - 0.5 * p * (p + 1) * power * u**2
    return jnp.where(inside, value, 0.0)
