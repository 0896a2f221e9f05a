"""What a MACE model is, apart from its weights: frozen, hashable, compared by value."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..layers.equivariant import Constant, Irreps, Linear

MaceParams = dict[str, Any]  # by mace-torch's names


class ConvPath(NamedTuple):
    """h[source] ⊗ Y[harmonic] → one block of channels of the message, with a weight for each edge and channel."""

    source: int  # entry of the features that go along the edges
    harmonic: int  # entry of the spherical harmonics
    target: int  # entry of the message
    scale: float


class SelectorPath(NamedTuple):
    """out[target] += scale · h[source] W[:, species of the atom, :]."""

    source: int
    target: int
    shape: tuple[int, int, int]  # channels in, species, channels out
    scale: float


@dataclasses.dataclass(frozen=True)
class Selector:
    """A linear map with weights of its own for each species (e3nn's FullyConnectedTensorProduct with a one-hot)."""

    paths: tuple[SelectorPath, ...]
    out: Irreps


@dataclasses.dataclass(frozen=True)
class Gate:
    """Scalars pass an activation; of the irreps with l > 0, each channel is multiplied by an activated scalar.

    The input's scalars are first `scalars` ordinary ones, then one for every gated channel.
    """

    scalars: int
    gated: Irreps
    scalar_norm: float
    gate_norm: float


@dataclasses.dataclass(frozen=True)
class Nonlinearity:
    """message → linear_2(gate(message + linear_res(h)))."""

    gate: Gate
    linear_res: Linear
    linear_2: Linear


@dataclasses.dataclass(frozen=True)
class Interaction:
    """One message-passing step: which of the published blocks, and its linear maps."""

    kind: str
    linear_up: Linear
    harmonics: tuple[int, ...]  # l of the spherical harmonics
    sources: Irreps  # of what goes along the edges
    middle: Irreps  # of the message before its linear map
    paths: tuple[ConvPath, ...]
    linear: Linear
    skip: Selector | Linear
    neighbors: float  # average number, divides the message
    activation_norm: float  # of the radial network
    nonlinearity: Nonlinearity | None = None  # of the block "ResidualNonLinear" alone


class Degree(NamedTuple):
    """The coefficients of one degree in a symmetric contraction: which weight they multiply, and U."""

    weight: str  # name of W within the contraction
    coefficients: Constant  # (entries, K), zero for entries of other degrees


class Contraction(NamedTuple):
    """The polynomials of one irrep, by entries that are sorted by component.

    Polynomial M = Σ_e Σ_ν Σ_k coefficients_ν[e, k] W_ν[species, k, channel] · Π_j A[factors[j, e]], e of component M.
    """

    factors: Constant  # (correlation, entries) int, components of A; one beyond the last stands for 1
    degrees: tuple[Degree, ...]
    sizes: tuple[int, ...]  # entries of each component, 2L + 1 of them


@dataclasses.dataclass(frozen=True)
class Product:
    """The many-body expansion of an atom's message: all symmetric powers up to the correlation order, and a linear map."""

    contractions: tuple[Contraction, ...]  # of each irrep
    linear: Linear
    residual: bool  # whether the interaction's skip connection is added
    agnostic: bool  # one set of weights for all species


@dataclasses.dataclass(frozen=True)
class Readout:
    """Site energies of every head: linear, or one (two, with biases) hidden layers of scalars."""

    kind: str
    layers: tuple[Linear, ...]
    names: tuple[str, ...]  # of the layers' weights
    activation: str = ""
    activation_norm: float = 1.0
    masked: bool = False  # whether each head has hidden channels of its own


@dataclasses.dataclass(frozen=True)
class Radial:
    """Distances to edge features."""

    basis: str  # BesselBasis, GaussianBasis or ChebychevBasis
    size: int
    r_max: float  # Å
    p: int  # of the polynomial cutoff
    transform: str = ""  # AgnesiTransform or SoftTransform
    cutoff_on_basis: bool = True  # else the cutoff multiplies the radial network's output
    repulsion: int = 0  # exponent of the ZBL envelope, 0: no ZBL
    radii: Constant | None = None  # covalent radii by atomic number, Å: what transform and ZBL need


@dataclasses.dataclass(frozen=True)
class MaceConfig:
    """Everything that is not a weight. Keys compilation, all but the elements: only how many there are is compiled, so
    that crystals of as many elements share programs."""

    numbers: tuple[int, ...] = dataclasses.field(compare=False)  # atomic numbers, in the order of the weights
    radial: Radial
    interactions: tuple[Interaction, ...]
    products: tuple[Product, ...]
    readouts: tuple[Readout, ...]
    heads: tuple[str, ...]
    head: int
    scaled: bool  # ScaleShiftMACE: the repulsion is scaled and shifted with the site energies
    single: bool  # constants (couplings) rounded to float32, as in a file of that precision
    n_species: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_species", len(self.numbers))
        # the tree is walked once, not at every call of a compiled function
        compared = tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.compare)
        object.__setattr__(self, "_hash", hash(compared))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined]
