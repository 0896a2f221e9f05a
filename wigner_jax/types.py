"""Every data structure that crosses a module border: frozen pytrees, shapes in the comment, units with them.

More than 350 lines: one definition after the other, most of it what their fields mean.

Index alphabet, used in every docstring and einsum of the package:

    i j k    atoms of the primitive cell          n   number of them
    J K      atoms of a supercell                 N2, N3
    a b c    Cartesian components                 3
    s t u    phonon modes (bands) of leg 0, 1, 2  m = 3 n
    q        points of the full mesh              Q
    p        irreducible points                   P
    T        temperatures
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from ._core.pytree import Array, host_data, pytree
from .errors import InputError


@pytree()
class Crystal:
    """A primitive cell.

    Attributes:
        lattice: (3, 3) Å, rows are the lattice vectors.
        positions: (n, 3) fractional.
        masses: (n,) amu.
        numbers: (n,) atomic numbers.
        moments: (n,) or (n, 3) magnetic moments, collinear or vectors; they lower the symmetry. None: no magnetism.
        occupied: () share of the cell that is material, of layers and wires (`as_layer`): κ is normalised to it. None: all.
    """

    lattice: Array  #: (3, 3) Å, rows are the lattice vectors
    positions: Array  #: (n, 3) fractional
    masses: Array  #: (n,) amu
    numbers: tuple[int, ...]  #: (n,) atomic numbers
    #: (n,) or (n, 3) magnetic moments, collinear or vectors; they lower the symmetry. None: no magnetism
    moments: Array | None = dataclasses.field(default=None, repr=False)
    #: () share of the cell that is material, of layers and wires (`as_layer`): κ is normalised to it. None: all
    occupied: Array | None = dataclasses.field(default=None, repr=False)

    @property
    def n_atoms(self) -> int:
        return self.masses.shape[0]


@host_data
class Supercell:
    """Where each atom of a supercell sits, in integers: r_J = (positions[primitive_index[J]] + lattice_vector[J]) @ lattice.

    Host data. The supercell's lattice is ``matrix @ crystal.lattice``; any integer matrix with non-zero determinant.

    Attributes:
        matrix: (3, 3) int.
        primitive_index: (N,) int, atom of the primitive cell.
        lattice_vector: (N, 3) int, lattice vector of the primitive cell it belongs to.
        p2s_map: (n,) int, the supercell atom that stands for each primitive atom: row i of the constants.
    """

    matrix: np.ndarray  #: (3, 3) int
    primitive_index: np.ndarray  #: (N,) int, atom of the primitive cell
    lattice_vector: np.ndarray  #: (N, 3) int, lattice vector of the primitive cell it belongs to
    p2s_map: np.ndarray  #: (n,) int, the supercell atom that stands for each primitive atom: row i of the constants

    @property
    def n_atoms(self) -> int:
        return len(self.primitive_index)

    def positions_in(self, crystal: Crystal) -> np.ndarray:
        """Cartesian positions of the atoms, Å. (N, 3)"""
        return (np.asarray(crystal.positions)[self.primitive_index] + self.lattice_vector) @ np.asarray(crystal.lattice)


@host_data
class Supercells:
    """A crystal and the two supercells in which its force constants are made. Host data.

    Attributes:
        crystal: the primitive cell.
        fc2_supercell: that of Φ2.
        fc3_supercell: that of Φ3.
    """

    crystal: Crystal
    fc2_supercell: Supercell
    fc3_supercell: Supercell


@pytree()
class ForceConstants:
    """Compact force constants, what potentials hand to phonons, in phono3py's layout of axes.

    Row i is the primitive atom i, which is atom ``supercell.p2s_map[i]`` of the supercell; images are summed over the
    supercell (folded). Columns are the atoms in the order of the `Supercell`: of files it is the file's; a supercell made
    here has all images of the first primitive atom, then those of the second, and so on, which is not phonopy's order for
    a conventional cell. `Supercell.positions_in` says where each atom is.

    Attributes:
        fc2: (n, N2, 3, 3) eV/Å².
        fc3: (n, N3, N3, 3, 3, 3) eV/Å³.
    """

    fc2: Array  #: (n, N2, 3, 3) eV/Å²
    fc3: Array  #: (n, N3, N3, 3, 3, 3) eV/Å³


class Residuals(NamedTuple):
    """How far force constants are from what every crystal obeys (ifc/residuals.py), relative; NaN where not measured.

    Attributes:
        sum_rules: acoustic sum rules.
        symmetry: index permutations and space group, the larger of the two.
        stars: squared frequencies of the points of a star, relative to the largest.
    """

    sum_rules: tuple[float, float] = (np.nan, np.nan)  #: acoustic sum rules
    symmetry: tuple[float, float] = (np.nan, np.nan)  #: index permutations and space group, the larger of the two
    stars: float = np.nan  #: squared frequencies of the points of a star, relative to the largest


@pytree()
class BornCharges:
    """What the non-analytic term correction needs.

    Attributes:
        charges: (n, 3, 3) units of e; first index: field, second: displacement (phonopy's BORN).
        dielectric: (3, 3) relative to the vacuum.
        factor: () eV Å; e²/(4πε0) = 14.399652.
    """

    charges: Array  #: (n, 3, 3) units of e; first index: field, second: displacement (phonopy's BORN)
    dielectric: Array  #: (3, 3) relative to the vacuum
    factor: Array  #: () eV Å; e²/(4πε0) = 14.399652


@pytree("dims")
class Mesh:
    """A regular q-mesh and its symmetry. Point (x, y, z) has index x + dims[0] (y + dims[1] z).

    Attributes:
        dims: points along the three reciprocal vectors.
        qpoints: (Q, 3) fractional (of the reciprocal lattice), in (-1/2, 1/2].
        irreducible: (P,) int, index of the irreducible points: the lowest index of each star.
        weights: (P,) int, sizes of the stars; they sum to Q.
        star: (Q,) int, the star of every point, as a row of `irreducible`.
        rotations: (R, 3, 3) Cartesian point group (time reversal included) that keeps crystal and mesh.
        steps: (3, 3) 1/Å; Σ_μ (v·s_μ)²/12 is the variance of v·q over the region of a point; rectangular: b_μ/N_μ.
    """

    dims: tuple[int, int, int]
    qpoints: Array  #: (Q, 3) fractional (of the reciprocal lattice), in (-1/2, 1/2]
    irreducible: Array  #: (P,) int, index of the irreducible points: the lowest index of each star
    weights: Array  #: (P,) int, sizes of the stars; they sum to Q
    star: Array  #: (Q,) int, the star of every point, as a row of `irreducible`
    rotations: Array  #: (R, 3, 3) Cartesian point group (time reversal included) that keeps crystal and mesh
    steps: Array  #: (3, 3) 1/Å; Σ_μ (v·s_μ)²/12 is the variance of v·q over the region of a point; rectangular: b_μ/N_μ


@pytree("supercell_atoms")
class FC2Table:
    """Where the folded Φ2 goes in a lattice Fourier sum; padded with weight 0.

    Entry (i, j, l) is one image of primitive atom j seen from i: its separation is (r_j + R - r_i) with
    R = vectors[slot[i, j, l]]. The distinct R are few, so that a Fourier sum is one matrix product over them.

    Attributes:
        atom: (n, n, L) int, supercell atom J whose force constants the entry takes.
        slot: (n, n, L) int, row of `vectors`.
        weight: (n, n, L) 1/(number of equidistant images), 0 for padding.
        vectors: (V, 3) int, the distinct lattice vectors R.
        supercell_atoms: N2.
    """

    atom: Array  #: (n, n, L) int, supercell atom J whose force constants the entry takes
    slot: Array  #: (n, n, L) int, row of `vectors`
    weight: Array  #: (n, n, L) 1/(number of equidistant images), 0 for padding
    vectors: Array  #: (V, 3) int, the distinct lattice vectors R
    supercell_atoms: int  #: N2


@pytree()
class Phonons:
    """Harmonic solution on the full mesh, and the velocity operator where it is needed.

    Attributes:
        frequencies: (Q, m) THz, ascending; imaginary ones are negative.
        eigenvectors: (Q, 3n, m) complex, columns are modes, smooth phase convention exp(iq·(r_j + R - r_i)).
        velocity_operator: (P, m, m, 3) complex, THz Å, at the irreducible points (published Wigner operator).
    """

    frequencies: Array  #: (Q, m) THz, ascending; imaginary ones are negative
    eigenvectors: Array  #: (Q, 3n, m) complex, columns are modes, smooth phase convention exp(iq·(r_j + R - r_i))
    velocity_operator: Array  #: (P, m, m, 3) complex, THz Å, at the irreducible points (published Wigner operator)


@pytree()
class Linewidths:
    """Half widths at half maximum, THz; lifetimes are τ = 1/(4πγ). Every value is an average over its degenerate block.

    Attributes:
        three_phonon: (T, P, m).
        isotope: (P, m).
        boundary: (P, m).
        overflow: () bool: the capacity for on-shell items was too small, and the widths are NaN.
    """

    three_phonon: Array  #: (T, P, m)
    isotope: Array  #: (P, m)
    boundary: Array  #: (P, m)
    overflow: Array  #: () bool: the capacity for on-shell items was too small, and the widths are NaN

    @property
    def total(self) -> Array:
        """Sum of all causes, THz. (T, P, m)"""
        return self.three_phonon + (self.isotope + self.boundary)


@pytree()
class Conductivity:
    """Wigner conductivity in the relaxation-time approximation. Voigt order xx, yy, zz, yz, xz, xy; W/(m K).

    Mode values are star sums divided by nothing: Σ over q, s (and s') of a mode array, over the number of mesh points,
    is the corresponding tensor.

    Attributes:
        temperatures: (T,) K.
        kappa_P: (T, 6) populations (the Boltzmann value, degenerate pairs included).
        kappa_C: (T, 6) coherences.
        mode_kappa_P: (T, P, m, 6).
        mode_kappa_C: (T, P, m, m, 6).
        heat_capacity: (T, P, m) eV/K per mode.
    """

    temperatures: Array  #: (T,) K
    kappa_P: Array  #: (T, 6) populations (the Boltzmann value, degenerate pairs included)
    kappa_C: Array  #: (T, 6) coherences
    mode_kappa_P: Array  #: (T, P, m, 6)
    mode_kappa_C: Array  #: (T, P, m, m, 6)
    heat_capacity: Array  #: (T, P, m) eV/K per mode

    @property
    def kappa_TOT(self) -> Array:
        """Populations and coherences, W/(m K). (T, 6)"""
        return self.kappa_P + self.kappa_C


class KappaTensors(NamedTuple):
    """Populations' and coherences' conductivity, W/(m K), Voigt order.

    Attributes:
        kappa_P: (T, 6).
        kappa_C: (T, 6).
    """

    kappa_P: Array  #: (T, 6)
    kappa_C: Array  #: (T, 6)

    @property
    def kappa_TOT(self) -> Array:
        """Populations and coherences, W/(m K). (T, 6)"""
        return self.kappa_P + self.kappa_C


#: "mixed": force constants of third order and matrix elements in single precision, all else in double
Precision = Literal["double", "mixed"]
#: how the transport equation of the populations is solved: relaxation-time approximation, or the full linearised equation
Transport = Literal["rta", "lbte"]


@jax.tree_util.register_pytree_with_keys_class
@host_data
class Scattering:
    """What scatters besides the three-phonon processes. A pytree: the numbers are its leaves.

    Attributes:
        isotope: mass variances g, (n,); "natural": those of the natural abundances; None: no scattering by isotopes.
        boundary_mfp: () mean free path between boundaries in µm; None: no boundaries.
    """

    #: mass variances g, (n,); "natural": those of the natural abundances; None: no scattering by isotopes
    isotope: Array | Literal["natural"] | None = "natural"
    #: () mean free path between boundaries in µm; None: no boundaries
    boundary_mfp: Array | None = None

    def variances(self, plan: Plan) -> Array | None:
        """The mass variances that count in a crystal, (n,), or None."""
        if isinstance(self.isotope, str):
            if self.isotope != "natural":
                raise InputError(f"Scattering.isotope is {self.isotope!r}", 'give "natural", None or mass variances')
            return plan.mass_variances
        return self.isotope

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], str | None]:
        word = self.isotope if isinstance(self.isotope, str) else None
        keys = (jax.tree_util.GetAttrKey(name) for name in ("isotope", "boundary_mfp"))
        return tuple(zip(keys, (None if word else self.isotope, self.boundary_mfp), strict=True)), word

    @classmethod
    def tree_unflatten(cls, word: str | None, leaves: tuple[Any, Any]) -> Scattering:
        return cls(word or leaves[0], leaves[1])


@pytree()
class TripletBucket:
    """Irreducible q with about equally many wanted rods of q'; rod r holds all x at (y, z) = (rods[r, 0], planes[rods[r, 1]]).

    Attributes:
        members: (B,) int, position among the irreducible points.
        planes: (B, Z) int, the z needed; padded with 0.
        rods: (B, R, 2) int, y and the position of z in `planes`; padded with rod (0, planes[0]).
        weights: (B, R, X) int, number of triplets that (q, q') stands for; 0 for padding.
    """

    members: Array  #: (B,) int, position among the irreducible points
    planes: Array  #: (B, Z) int, the z needed; padded with 0
    rods: Array  #: (B, R, 2) int, y and the position of z in `planes`; padded with rod (0, planes[0])
    weights: Array  #: (B, R, X) int, number of triplets that (q, q') stands for; 0 for padding


@pytree()
class Tetrahedra:
    """How the neighbourhood of a mesh point is cut into tetrahedra with the point as first vertex.

    Attributes:
        neighbours: (V, 3) int, offsets of the distinct vertices; the first is the point itself.
        opposite: (V,) int, index of the inverted offset.
        vertices: (K, 3) int, the three other vertices of each tetrahedron, as rows of `neighbours`.
        share: (K,) float, volume in micro-cells times weight in the average over several cuts; Σ = 4.
    """

    neighbours: Array  #: (V, 3) int, offsets of the distinct vertices; the first is the point itself
    opposite: Array  #: (V,) int, index of the inverted offset
    vertices: Array  #: (K, 3) int, the three other vertices of each tetrahedron, as rows of `neighbours`
    share: Array  #: (K,) float, volume in micro-cells times weight in the average over several cuts; Σ = 4


@pytree("box", "supercell_atoms")
class FC3Table:
    """How folded Φ3 becomes Φ3(q, q', q'') = Σ_D exp(2πi q'·D) Σ_R'' Φ[D, R''] exp(-2πi q·R''), D = R' - R''.

    A *cell* is one (i, j, k, D); its entries are the R''. Supercells with about equally many entries share a bucket, padded.

    Attributes:
        source: (E,) int, row (i N3 + J) N3 + K of the folded Φ3.
        leg: (E,) int, which leg the anchor atom plays: 0, 1, 2.
        scale: (E,) 1/(3 · images of J · images of K).
        slot: (E,) int ascending, where the entry is summed: a row of the concatenated buckets.
        vectors: (nR, 3) int, the distinct R''.
        buckets: each (cells, entries) int, R'' of every row as an index into `vectors`.
        cells: (n, n, n, X, Y, Z) int, the cell of (i, j, k, D), as a row of the concatenated buckets; their number:
            none.
        x_start: () int; the box is sheared: D = (x_start + x, y_start[x] + y, z_start[x, y] + z).
        y_start: (X,) int.
        z_start: (X, Y) int.
        box: X, Y, Z.
        supercell_atoms: N3.
    """

    source: Array  #: (E,) int, row (i N3 + J) N3 + K of the folded Φ3
    leg: Array  #: (E,) int, which leg the anchor atom plays: 0, 1, 2
    scale: Array  #: (E,) 1/(3 · images of J · images of K)
    slot: Array  #: (E,) int ascending, where the entry is summed: a row of the concatenated buckets
    vectors: Array  #: (nR, 3) int, the distinct R''
    buckets: tuple[Array, ...]  #: each (cells, entries) int, R'' of every row as an index into `vectors`
    cells: Array  #: (n, n, n, X, Y, Z) int, the cell of (i, j, k, D), as a row of the concatenated buckets; their number: none
    x_start: Array  #: () int; the box is sheared: D = (x_start + x, y_start[x] + y, z_start[x, y] + z)
    y_start: Array  #: (X,) int
    z_start: Array  #: (X, Y) int
    box: tuple[int, int, int]  #: X, Y, Z
    supercell_atoms: int  #: N3


@pytree(host=("supercells",))
class Plan:
    """Everything that depends on the cells and the mesh alone: integer tables, made once on the host.

    An argument of the traced functions, never a constant in them: shapes alone key compilation.

    Attributes:
        crystal: the primitive cell.
        mass_variances: (n,) isotope mass variances of the natural abundances.
        mesh: dimensions.
        fc2_table: where Φ2 goes in a Fourier sum.
        fc3_table: where Φ3 goes in one.
        triplets: the triplets (q, q', q'') that are needed, in buckets of about equal size.
        supercells: what the plan was made for, on the host: `solve` checks force constants against it; None inside
            transformations.
    """

    crystal: Crystal
    mass_variances: Array  #: (n,) isotope mass variances of the natural abundances
    mesh: Mesh
    fc2_table: FC2Table
    fc3_table: FC3Table
    triplets: tuple[TripletBucket, ...]
    #: what the plan was made for, on the host: `solve` checks force constants against it; None inside transformations
    supercells: Supercells | None = None
