"""Which directional derivatives determine the force constants, and the normal equations that recover them.

One evaluation along directions (u, v) gives the 3N numbers

    G[J, α] = Σ_{KL, βγ} Φ[J α, K β, L γ] u[K, β] v[L, γ]          (order 2: Σ Φ[J α, K β] u[K, β]),

linear in the n_b parameters c of Φ = C c: G = A c, with translations providing Φ's other rows. Automatic
differentiation makes G exact, so a handful of random patterns on all atoms (u = v) is enough: about n_b/(3N − 3),
because the forces of each evaluation sum to zero. With M = AᵀA = LLᵀ the fit is c = M⁻¹ Aᵀ G, refined once; A itself is
never kept, since A c is Φ applied to the patterns and Aᵀ G is Cᵀ of an outer product.

Rank is checked, not assumed: patterns are added until cond(A) < 300 (Φ2 of wurtzite with one pattern is deficient
though it has more equations than unknowns). Single-atom columns (`plan.columns`), whose normal equations fall apart
into blocks, are used instead where the cubic cost of Cholesky takes over (above `DENSE_LIMIT` parameters), and where
they need hardly more evaluations (little symmetry: 243 against 229 for an alloyed cell of 9800 parameters, planned in
1.5 s and not 32).

A potential without parity (SevenNet: features that do not know 1o from 1e) gives a crystal and its mirror image different
energies. Its derivatives then break the symmetry that the fit assumes, by 0.1 %, and cond(A) makes that errors of several
per cent in Φ. With an improper operation S of the crystal, G(Su) - S G(u) is that part, and the least squares over both
u and Su is the fit to its average, ½ (G(u) + S⁻¹ G(Su)): exact for E(x) + E(Sx), half of which is the energy's symmetric
part. Since A(Su) c = S A(u) c, the normal equations only double (`with_mirror_images`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.arrays_in import read_npz
from .._core.atomic_write import write_bytes
from .._core.pytree import Array, pytree
from .._core.reading import reading
from ..errors import InputError
from .single_atom_patterns import single_atom_columns
from .symmetry_basis import Basis, columns_of, operations_on, symmetric_basis

if TYPE_CHECKING:
    from scipy import sparse

    from ..types import Crystal, Supercell

DENSE_LIMIT = 15_000  # parameters; 1.8 GB and about a minute of Cholesky on two cores
MAX_CONDITION = 300.0  # of A; the error of the fit is about 1e-16 cond(A), the refinement step included
COLUMNS_FROM = 2_000  # parameters from which columns are tried
COLUMNS_EXCESS = 1.15  # ... and taken, if they need at most this many times the evaluations of patterns
_CACHE_FORMAT = "4"
RECENT_BYTES = 256 * 2**20  # of plans that are kept in memory: two seconds of work for every compound of a structure
_RECENT: dict[str, dict[str, np.ndarray]] = {}  # by `_key`


@pytree()
class Fit:
    """What turns directional derivatives into force constants of one order. K evaluations."""

    basis: Basis
    patterns: Array  #: (K, m-1, N, 3) directions u (and v) of each evaluation, Å per unit of ε; (K, 1, N, 3) if u = v
    factor: Array  #: (n_b, n_b) lower Cholesky factor of AᵀA; or (O, r, r) inverse of each orbit's block of it
    mirror: tuple[Array, Array] | None = None  #: (N,) and (3, 3): S, if the second half of the patterns are images Su

    @property
    def n_evaluations(self) -> int:
        return self.patterns.shape[0]


@dataclasses.dataclass(frozen=True)
class FitInfo:
    """How good a fit is, before anything was evaluated."""

    n_parameters: int
    n_evaluations: int
    condition: float  #: of A (the worst block's, for columns)
    scheme: str  #: "patterns" or "columns"
    cached: bool


def plan_fit(
    crystal: Crystal,
    supercell: Supercell,
    order: int,
    seed: int = 0,
    scheme: str = "auto",
    cache: Path | None = None,
    parity: bool = True,
) -> tuple[Fit, FitInfo]:
    """Symmetric basis, patterns and factorised normal equations of the force constants of one order (2 or 3).

    Args:
        seed: of the random patterns.
        scheme: "patterns" needs the fewest evaluations (40 for the 8098 parameters of a wurtzite cell of 72 atoms) and
            pays for it once with a dense factorisation (15 s on two cores; worth it with a cache, a costly potential or
            many gradients), "columns" plans in a second and evaluates more (61). "auto" takes columns where they
            need at most 15 % more evaluations, and beyond `DENSE_LIMIT` parameters.
        cache: folder for factorised plans. They depend on permutations and rotations only, neither on species nor on
            lattice constants nor on the potential, so a plan serves every compound of a structure type.
        parity: False for a potential that tells mirror images apart: twice the evaluations, where the crystal has an
            improper operation.
    """
    fit, info = _plan_fit(crystal, supercell, order, seed, scheme, cache)
    if not parity:
        fit = with_mirror_images(fit, *operations_on(crystal, supercell))
        info = dataclasses.replace(info, n_evaluations=fit.n_evaluations)
    return fit, info


def with_mirror_images(fit: Fit, rotations: np.ndarray, permutations: np.ndarray) -> Fit:
    """The fit with every pattern's image under one improper operation besides; as it is if there is none.

    Args:
        rotations, permutations: of `operations_on`.
    """
    (improper,) = np.nonzero(np.linalg.det(rotations) < 0)
    if len(improper) == 0:
        return fit
    g = improper[np.argmin(np.trace(rotations[improper], axis1=1, axis2=2))]  # inversion where there is one
    images = np.empty_like(fit.patterns)
    images[:, :, permutations[g]] = np.asarray(fit.patterns) @ rotations[g].T
    factor = np.asarray(fit.factor)
    factor = factor * np.sqrt(2) if factor.ndim == 2 else factor / 2  # Cholesky factor, or inverse
    return Fit(fit.basis, np.concatenate([fit.patterns, images]), factor, (permutations[g], rotations[g]))


def _plan_fit(
    crystal: Crystal, supercell: Supercell, order: int, seed: int, scheme: str, cache: Path | None
) -> tuple[Fit, FitInfo]:
    if scheme not in ("auto", "patterns", "columns"):
        raise ValueError(f'scheme must be "auto", "patterns" or "columns", got {scheme!r}')
    basis = symmetric_basis(crystal, supercell, order)
    if basis.n_parameters == 0:
        raise InputError(
            f"symmetry leaves no force constants of order {order} in a supercell of {supercell.n_atoms} atoms",
            f"choose a larger fc{order}_supercell",
        )
    key = _key(basis, seed, scheme)
    path = None if cache is None else Path(cache) / f"{key}.npz"
    stored = _RECENT.get(key)
    if stored is None and path is not None and path.exists():
        with reading(path, "stored patterns of displacements", "remove it"):
            stored = read_npz(path)
    if stored is not None:
        basis = dataclasses.replace(basis, local=stored["local"], slots=stored["slots"])
        fit = Fit(basis, stored["patterns"], stored["factor"])
        scheme, condition = str(stored["scheme"]), float(stored["condition"])
        return fit, FitInfo(basis.n_parameters, fit.n_evaluations, condition, scheme, cached=True)
    solved = None
    dense = basis.n_parameters <= DENSE_LIMIT
    if scheme == "columns" or (scheme == "auto" and basis.n_parameters > COLUMNS_FROM):
        solved = single_atom_columns(basis, _anchors(crystal, supercell, order), seed, MAX_CONDITION)
        if scheme == "auto" and dense and len(solved[0]) > COLUMNS_EXCESS * _pattern_count(basis):
            solved = None
    scheme = "patterns" if solved is None else "columns"
    patterns, factor, condition = _random_patterns(basis, seed) if solved is None else solved
    fit = Fit(basis, patterns, factor)
    content: dict[str, Any] = {
        "local": np.asarray(basis.local), "slots": np.asarray(basis.slots), "patterns": patterns, "factor": factor,
        "condition": np.asarray(condition), "scheme": np.asarray(scheme),
    }  # fmt: skip
    _remember(key, content)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        np.savez(file, **content)
        write_bytes(path, file.getvalue())
    return fit, FitInfo(basis.n_parameters, fit.n_evaluations, condition, scheme, cached=False)


def _remember(key: str, content: dict[str, np.ndarray]) -> None:
    """Keep a plan for the next compound of the structure, the oldest ones only while there is room."""
    for array in content.values():
        array.flags.writeable = False
    _RECENT[key] = content
    while sum(x.nbytes for kept in _RECENT.values() for x in kept.values()) > RECENT_BYTES:
        del _RECENT[next(iter(_RECENT))]


def _key(basis: Basis, seed: int, scheme: str) -> str:
    """Hash of all that a factorised plan depends on."""
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {basis.order} {seed} {scheme}".encode())
    for array in (basis.orbit, basis.legs, basis.translations, basis.p2s_map):
        digest.update(np.ascontiguousarray(array).tobytes())
    # the same to the digit for other lattice constants (`operations_on`). A structure of eight decimals has rotations of its
    # own, and of another plan's basis its fit would be off by as much
    digest.update(np.ascontiguousarray(basis.rotation).tobytes())
    return digest.hexdigest()[:32]


def _anchors(crystal: Crystal, supercell: Supercell, order: int) -> np.ndarray:
    """Atoms (order 2) or one pair of atoms per orbit (order 3) that columns displace. (A, m-1)"""
    if order == 2:
        return supercell.p2s_map[:, None]
    first = np.unique(symmetric_basis(crystal, supercell, 2).orbit, return_index=True)[1]
    home, other = np.divmod(first, supercell.n_atoms)
    return np.stack([supercell.p2s_map[home], other], axis=1)


def _pattern_count(basis: Basis) -> int:
    """Patterns to begin with: 5 % more equations than parameters."""
    equations = max(3 * basis.translations.shape[1] - 3, 1)
    return max(1, int(np.ceil(1.05 * basis.n_parameters / equations)))


def _random_patterns(basis: Basis, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Gaussian patterns until cond(A) < 300. Returns patterns (K, 1, N, 3), Cholesky factor and cond(A)."""
    from scipy import linalg

    rng = np.random.default_rng(seed)
    N = basis.translations.shape[1]
    blocks = _blocks(basis)
    M = np.zeros((basis.n_parameters, basis.n_parameters), order="F")
    count = _pattern_count(basis)
    limit = 4 * count + 12
    patterns = np.empty((0, N, 3))
    while True:
        fresh = rng.standard_normal((count, N, 3))
        patterns = np.concatenate([patterns, fresh])
        M = _accumulate(M, basis, blocks, fresh)
        try:
            factor = linalg.cholesky(M, lower=True, check_finite=False)
            condition = _condition(M, factor)
        except linalg.LinAlgError:
            condition = np.inf
        if condition < MAX_CONDITION:
            return patterns[:, None], np.ascontiguousarray(np.tril(factor)), condition
        count = max(1, len(patterns) // 20)
        if len(patterns) + count > limit:
            raise ValueError(
                f"{len(patterns)} random patterns leave cond(A) = {condition:.1e} for {basis.n_parameters} parameters: "
                'try another seed, or scheme="columns"'
            )


def _blocks(basis: Basis) -> list[sparse.csr_array]:
    """C sorted for the design: for each (home atom i, component α) a matrix (n_b, rows (K β) or (K β)(L γ))."""
    from scipy import sparse

    C = columns_of(basis).tocoo()
    n, N, m = len(basis.p2s_map), basis.translations.shape[1], basis.order
    atoms, components = np.divmod(C.row, 3**m)
    index = np.unravel_index(atoms, (n,) + (N,) * (m - 1)) + np.unravel_index(components, (3,) * m)
    # (i, K, L, α, β, γ) -> (i, α), (K, β, L, γ)
    first = index[0] * 3 + index[m]
    rest = np.zeros_like(first)
    for leg in range(1, m):
        rest = (rest * N + index[leg]) * 3 + index[m + leg]
    width = (3 * N) ** (m - 1)
    sorted_rows = sparse.csr_array((C.data, (first * width + rest, C.col)), shape=C.shape)
    return [sorted_rows[k * width : (k + 1) * width].T.tocsr() for k in range(3 * n)]


def _accumulate(M: np.ndarray, basis: Basis, blocks: list[sparse.csr_array], patterns: np.ndarray) -> np.ndarray:
    """M + Σ over patterns of AᵀA; only the lower triangle is kept."""
    from scipy import linalg

    translated = patterns[:, basis.translations].reshape(-1, patterns.shape[1] * 3).T.copy()  # (3N, K L)
    width, count = len(translated) ** (basis.order - 1), translated.shape[1]
    batch = max(1, min(count, int(2e8 / (8 * width)), 1 + 4096 // len(blocks)))
    for start in range(0, count, batch):
        U = np.ascontiguousarray(translated[:, start : start + batch])
        outer = U if basis.order == 2 else (U[:, None] * U[None]).reshape(width, -1)
        rows = np.concatenate([block @ outer for block in blocks], axis=1)  # (n_b, 3n batch)
        M = linalg.blas.dsyrk(1.0, np.asfortranarray(rows), beta=1.0, c=M, lower=1, overwrite_c=1)
    return M


def _condition(M: np.ndarray, factor: np.ndarray) -> float:
    """cond(A) = √cond(AᵀA) to about a percent, by Lanczos on M and on its inverse."""
    from scipy import linalg
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = len(M)
    if n < 500:
        values = linalg.eigvalsh(M, lower=True)
        return float(np.sqrt(values[-1] / values[0])) if values[0] > 0 else np.inf
    multiply = LinearOperator((n, n), lambda x: linalg.blas.dsymv(1.0, M, x, lower=1), dtype=float)
    solve = LinearOperator((n, n), lambda x: linalg.cho_solve((factor, True), x, check_finite=False), dtype=float)
    start = np.random.default_rng(0).standard_normal(n)
    largest, inverse = (
        eigsh(operator, k=1, which="LM", v0=start, tol=1e-3, return_eigenvectors=False)[0]
        for operator in (multiply, solve)
    )
    return float(np.sqrt(largest * inverse))
