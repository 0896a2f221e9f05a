"""Directional derivatives along single atoms: the scheme for crystals of low symmetry.

An evaluation along one atom (or, for Φ3, a pair of atoms b, c), each with a direction of its own, gives Φ[J, b, c] for
all J. Every one of its equations concerns a single orbit of tuples, so that AᵀA falls apart into one block of at most
27 parameters per orbit, however many parameters there are. More evaluations are needed than with patterns on all atoms
(10, 17 and 52 against 5, 9 and 38 for the rocksalt, zincblende and wurtzite cells of 64 to 72 atoms), but nothing is
cubic in the number of parameters.

The cover is greedy: the atoms (or pairs) whose orbits lack most, with the best of some random directions by the
determinant of the blocks they touch (D-optimality), until every block has full rank; then more where one is
ill-conditioned.
Permutation symmetry counts: a triplet is seen through each of its three pairs.
"""

from __future__ import annotations

import numpy as np

from .symmetry_basis import Basis, tuple_blocks

TRIALS = 24  # random directions compared per column
RANK = 1e-7  # eigenvalue of a block, relative to the largest, above which a parameter counts as determined
EXTRA = 0.25  # additional columns, as a fraction of the cover, that may be spent on condition


class _Columns:
    """Normal equations block by block, while columns are being chosen."""

    def __init__(self, basis: Basis, anchors: np.ndarray, seed: int) -> None:
        self.basis, self.anchors = basis, anchors
        self.rng = np.random.default_rng(seed)
        self.sizes = np.bincount(basis.orbit).astype(float)
        self.ranks = np.sum(np.asarray(basis.slots) < basis.n_parameters, axis=1)
        r = basis.local.shape[2]
        self.padding = np.eye(r) * (np.arange(r) >= self.ranks[:, None])[:, None, :]
        self.gram = np.zeros((len(self.sizes), r, r))
        self.found = np.zeros(len(self.sizes), int)
        self.tuples = self._tuples()  # (anchors, N)
        self.orbits = np.asarray(basis.orbit)[self.tuples]
        self.repeats = np.stack([np.bincount(row, minlength=len(self.sizes))[row] for row in self.orbits])

    def _tuples(self) -> np.ndarray:
        """Which tuple (home atom of J, translated anchor) each equation is about. (anchors, N)"""
        translations, home = np.asarray(self.basis.translations), np.asarray(self.basis.p2s_map)
        N = translations.shape[1]
        homing = np.argmax(np.isin(translations, home), axis=0)
        index = np.argsort(home)[np.searchsorted(np.sort(home), translations[homing, np.arange(N)])]
        result = np.broadcast_to(index, (len(self.anchors), N))
        for leg in range(self.anchors.shape[1]):
            result = result * N + translations[homing][:, self.anchors[:, leg]].T
        return result

    def missing(self) -> np.ndarray:
        """An upper bound on what one more column of each anchor can determine. (anchors,)"""
        lack = (self.ranks - self.found)[self.orbits]
        return np.minimum(3.0, lack / self.repeats).sum(axis=1)

    def trials(self, anchor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Random unit directions (D, m-1, 3), touched orbits (u,), and what each adds to their blocks (D, u, r, r)."""
        m = self.basis.order
        directions = self.rng.standard_normal((TRIALS, m - 1, 3))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        order = np.argsort(self.orbits[anchor], kind="stable")
        touched, starts = np.unique(self.orbits[anchor][order], return_index=True)
        # in units of one tensor, not of the orthonormal column: orbits of all sizes weigh alike
        blocks = tuple_blocks(self.basis, self.tuples[anchor][order])
        blocks = blocks * np.sqrt(self.sizes[self.orbits[anchor][order]])[:, None, None]
        blocks = blocks.reshape((len(order),) + (3,) * m + (-1,))
        subscripts = "jabr,db->djar" if m == 2 else "jabcr,db,dc->djar"
        rows = np.einsum(subscripts, blocks, *np.moveaxis(directions, 1, 0), optimize=True)
        added = np.add.reduceat(np.swapaxes(rows, 2, 3) @ rows, starts, axis=1)
        return directions, touched, added

    def add(self, touched: np.ndarray, added: np.ndarray) -> int:
        """Adds one column; returns how many parameters it determined."""
        self.gram[touched] += added
        values = np.linalg.eigvalsh(self.gram[touched])
        found = np.sum(values > RANK * np.maximum(values[:, -1:], 1.0), axis=1)
        gained = int(np.sum(found - self.found[touched]))
        self.found[touched] = found
        return gained

    def conditions(self) -> np.ndarray:
        """cond of A restricted to each orbit. (O,)"""
        values = np.linalg.eigvalsh(self.gram + self.padding * np.trace(self.gram, axis1=1, axis2=2)[:, None, None] / 3)
        return np.sqrt(values[:, -1] / np.maximum(values[:, 0], 1e-300))


def single_atom_columns(
    basis: Basis, anchors: np.ndarray, seed: int, max_condition: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """A cover of all parameters by single-atom columns.

    Args:
        anchors: (A, m-1) int, symmetry-inequivalent atoms (order 2) or pairs of atoms (order 3) to displace.
        max_condition: further columns are added while a block is worse, up to a quarter of the cover.

    Returns:
        patterns: (K, m-1, N, 3) directions, zero except on one atom each.
        inverses: (O, r, r) inverse of every orbit's block of AᵀA, zero in the padding.
        condition: of the worst block of A.
    """
    state = _Columns(basis, anchors, seed)
    chosen: list[tuple[int, np.ndarray]] = []
    saturated = np.zeros(len(anchors), bool)
    while np.any(state.found < state.ranks):
        score = np.where(saturated, 0.0, state.missing())
        anchor = int(score.argmax())
        if score[anchor] <= 0:
            raise AssertionError("all columns together leave parameters undetermined: the anchors are incomplete")
        directions, touched, added = state.trials(anchor)
        regular = 1e-3 * np.eye(added.shape[-1])
        best = int(np.linalg.slogdet(state.gram[touched] + added + regular)[1].sum(axis=1).argmax())
        if state.add(touched, added[best]) > 0:
            chosen.append((anchor, directions[best]))
        else:
            saturated[anchor] = True
            state.gram[touched] -= added[best]
    conditions = state.conditions()
    for _ in range(int(np.ceil(EXTRA * len(chosen)))):
        worst = int(conditions.argmax())
        if conditions[worst] < max_condition:
            break
        smallest, pick = -1.0, None
        for anchor in map(int, np.flatnonzero((state.orbits == worst).any(axis=1))):
            directions, touched, added = state.trials(anchor)
            here = int(np.flatnonzero(touched == worst)[0])
            values = np.linalg.eigvalsh(state.gram[worst] + added[:, here] + state.padding[worst])[:, 0]
            if values.max() > smallest:
                best, smallest = int(values.argmax()), float(values.max())
                pick = anchor, directions[best], touched, added[best]
        assert pick is not None
        chosen.append(pick[:2])
        state.add(*pick[2:])
        conditions = state.conditions()

    N = basis.translations.shape[1]
    patterns = np.zeros((len(chosen), basis.order - 1, N, 3))
    for k, (anchor, directions) in enumerate(chosen):
        for leg, atom in enumerate(anchors[anchor]):
            patterns[k, leg, atom] = directions[leg]
    inverses = (np.linalg.inv(state.gram + state.padding) - state.padding) * state.sizes[:, None, None]
    return patterns, inverses, float(conditions.max())
