"""SevenNet (Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024)): its files, and its energy written for XLA."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ..elements import SYMBOLS
from ..errors import InputError, require_finite
from .base import Potential
from .checkpoints import Tensor, read_archive, tensors
from .downloads import Published
from .edges import EdgeBlocks, edge_blocks
from .equivariant import (
    ACTIVATION_NORMS,
    Features,
    Irreps,
    MulIrrep,
    bessel,
    direction_monomials,
    polynomial_cutoff,
    wigner_3j,
)
from .nequip import Convolution, convolution, gate, gated, hidden_layers, linear, message_passing, under

if TYPE_CHECKING:
    from ..types import Array
    from .equivariant import Linear
    from .graph import Graph

SevenNetParams = dict[str, "Array"]

# sevenn has no address for these two: its package comes with the files, from this folder of its repository
_URL = "https://github.com/MDIL-SNU/SevenNet/raw/main/sevenn/pretrained_potentials"
_PACKAGE = "sevenn/pretrained_potentials"
MODELS: dict[str, Published] = {
    "sevennet-0": Published(  # of 11 July 2024
        f"{_URL}/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
        package=f"{_PACKAGE}/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    ),
    "sevennet-l3i5": Published(
        f"{_URL}/SevenNet_l3i5/checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
        names=("checkpoint_sevennet_l3i5.pth",),
        package=f"{_PACKAGE}/SevenNet_l3i5/checkpoint_l3i5.pth",
    ),
}
ALIASES = {"7net-0": "sevennet-0", "7net-l3i5": "sevennet-l3i5"}
#: What the energy of a supported model is made of. Anything else in a file's configuration is refused by name.
_REQUIRED: dict[str, Any] = {
    "_model_type": "E3_equivariant_model",
    "is_parity": False,
    "self_connection_type": "linear",
    "interaction_type": "nequip",
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
    "act_radial": "silu",
    "_normalize_sph": True,
}
_NORM = ACTIVATION_NORMS["silu"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One message-passing step. Names of its weights are those of the file."""

    skip: Linear
    linear_1: Linear
    convolution: Convolution
    linear_2: Linear
    out: Irreps  # after the gate


@dataclasses.dataclass(frozen=True)
class SevenNetConfig:
    """Everything that is not a weight. Keys compilation."""

    numbers: tuple[int, ...]  # atomic numbers, in the order of the weights
    cutoff: float  # Å
    cutoff_on: float  # Å; XPLOR's smoothing starts here; 0 for a polynomial cutoff
    p: int  # of the polynomial cutoff
    channels: int  # of the embedding
    depth: int  # hidden layers of the radial networks
    layers: tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class SevenNet:
    """E(params, graph) of one architecture; hashable, compares by value.

        E = Σ_i [scale_z · W2 W1 h_i + shift_z]
        h ← gate(linear_2(Σ_j R(r_ij) linear_1(h)_j ⊗ Y(r̂_ij) / denominator) + skip(h))

    h is an embedding of the species at first; R a network of Bessel functions with fitted wave numbers, times a cutoff.

    Smoothness. SevenNet-0 has the XPLOR cutoff from 4.5 to 5 Å, which is C¹ only: its second derivative jumps by −21.5
    and −26.6 Å⁻² at the two ends, so that force constants change when a shell of neighbours crosses one of them. These
    distances are the potential's `kinks`, and a graph's margin says how near the nearest pair is. SevenNet-l3i5 has a
    polynomial cutoff, C² at 5 Å; prefer it for third-order force constants.

    Symmetry. The features have no parity, so that the energy is invariant under rotations but not under inversions and
    mirrors: for SevenNet-0 forces of a mirrored cell differ by 3e-4 eV/Å, and Φ2 and Φ3 of MgO without their symmetric
    average by 1e-4 and 2e-3 of themselves. Force constants are those of the average over mirror images.

    `params` has the names and shapes of the torch model's `state_dict()`. All normalisation constants are in the code.
    """

    config: SevenNetConfig

    def __call__(self, params: SevenNetParams, graph: Graph) -> Array:
        """Energy of the cell, eV."""
        return jnp.sum(self.site_energies(params, graph))

    def site_energies(self, params: SevenNetParams, graph: Graph) -> Array:
        """Energy of every atom, eV. (N,)"""
        config = self.config
        params = {name: jnp.asarray(value) for name, value in params.items()}
        species = jnp.asarray(graph.species)
        edges = edge_blocks(graph)
        r = edges.lengths
        waves = params["edge_embedding.basis_function.coeffs"]
        radial = bessel(r, waves, jnp.asarray(2 / config.cutoff, r.dtype)) * self._cutoff(edges)[:, None]
        # from the receiver to the sender: the model is not symmetric under inversion of its directions
        degree = max(path.harmonic for layer in config.layers for path in layer.convolution.paths)
        geometry = edges, radial, direction_monomials(degree, -edges.units)

        count = len(config.numbers)
        embedding = params["onehot_to_feature_x.linear.weight"].reshape(count, config.channels) / math.sqrt(count)
        h: Features = (embedding[species][:, None, :],)
        parts = [under(params, f"{t}_") for t in range(len(config.layers))]
        (scalars,) = message_passing(config.layers, parts, partial(self._step, geometry), h)
        C = scalars.shape[-1]
        hidden = scalars[:, 0] @ params["reduce_input_to_hidden.linear.weight"].reshape(C, -1) / math.sqrt(C)
        site = hidden @ params["reduce_hidden_to_energy.linear.weight"] / math.sqrt(hidden.shape[-1])
        scale, shift = (params[f"rescale_atomic_energy.{name}"] for name in ("scale", "shift"))
        return scale[species] * site + shift[species]

    def _cutoff(self, edges: EdgeBlocks) -> Array:
        """1 below `cutoff_on` and (s_c − s)² (s_c + 2s − 3s_on)/(s_c − s_on)³ above, s = r² (XPLOR), or a polynomial. (S,)"""
        config, r = self.config, edges.lengths
        if not config.cutoff_on:
            return jnp.where(edges.mask, polynomial_cutoff(r, config.cutoff, config.p), 0.0)
        s, on, end = r**2, config.cutoff_on**2, config.cutoff**2
        value = (end - s) ** 2 * (end + 2 * s - 3 * on) / (end - on) ** 3
        value = jnp.where(r < config.cutoff_on, 1.0, value)
        return jnp.where(edges.mask & (r < config.cutoff), value, 0.0)

    def _step(
        self, geometry: tuple[EdgeBlocks, Array, Array], layer: Layer, params: SevenNetParams, h: Features
    ) -> Features:
        edges, radial, directions = geometry
        networks = [params[f"convolution.weight_nn.layer{k}.weight"] for k in range(self.config.depth + 1)]
        # normalised silu, weights over the square root of the fan-in
        norms = [(_NORM if k else 1.0) / math.sqrt(W.shape[0]) for k, W in enumerate(networks)]
        *hidden, last = (norm * W for norm, W in zip(norms, networks, strict=True))
        weights = hidden_layers(hidden, radial), last / params["convolution.denominator"]
        skip = layer.skip(params["self_connection_intro.linear.weight"], h)
        carried = layer.linear_1(params["self_interaction_1.linear.weight"], h)
        message = layer.convolution(edges, directions, weights, carried)
        out = layer.linear_2(params["self_interaction_2.linear.weight"], message)
        return gate(tuple(a + b for a, b in zip(out, skip, strict=True)), layer.out, _NORM)


# --- files -----------------------------------------------------------------------------------------------------------


def load_sevennet(path: str | Path, *, rounded: bool = False) -> Potential:
    """A checkpoint that sevenn saved (`.pth`), in float64, without torch and without executing anything in the file.

    Couplings have the signs of those in the file (some changed between versions of e3nn). Their values there are rounded
    to float32, so that sevenn's energies are symmetric to 1e-8 only; here they are exact, which moves energies by 1e-10
    of themselves and forces by 1e-8 eV/Å, and makes energies invariant under
    rotations to rounding.

    Args:
        rounded: take the couplings as they are in the file, for comparison with sevenn to the last digit.

    Raises:
        InputError: for a damaged or hostile file, a model that is not supported (it says which setting), or weights
            that are missing or not finite.
    """
    path = Path(path)
    archive = read_archive(path)
    try:
        if not isinstance(archive, dict) or not {"config", "model_state_dict"} <= archive.keys():
            raise InputError("not a checkpoint of sevenn")
        state = tensors(archive["model_state_dict"])
        config = _configuration(archive["config"], state, rounded)
        params = _parameters(config, state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: the model in this file cannot be understood ({error})") from error
    kinks: tuple[tuple[int, int, float], ...] = ()
    if config.cutoff_on:
        count = len(config.numbers)
        kinks = tuple((s, t, config.cutoff_on) for s in range(count) for t in range(s, count))
    return Potential(params, SevenNet(config), path.stem, config.numbers, config.cutoff, kinks=kinks, parity=False)


def _couplings(state: dict[str, Tensor], layer: int, rounded: bool) -> dict[tuple[int, int, int], np.ndarray]:
    """w3j of (l1, l2, l3) as a layer of the file has them, up to rounding."""
    prefix = f"{layer}_convolution.convolution._compiled_main_left_right._w3j_"
    found = {}
    for name, tensor in state.items():
        if not name.startswith(prefix):
            continue
        l1, l2, l3 = (int(l) for l in name.removeprefix(prefix).split("_"))
        exact = wigner_3j(l1, l2, l3)
        values = exact * np.sign(np.sum(exact * tensor.array))
        if not np.abs(values - tensor.array).max() < 1e-6:
            raise InputError(f"the coupling of l = {l1}, {l2}, {l3} is not e3nn's")
        found[l1, l2, l3] = tensor.array if rounded else values
    return found


def _configuration(values: dict[str, Any], state: dict[str, Tensor], rounded: bool = False) -> SevenNetConfig:
    for key, expected in _REQUIRED.items():
        if values.get(key, expected) != expected:
            raise InputError(f"a SevenNet model with {key} = {values[key]!r} is not supported (only {expected!r})")
    if values.get("use_modality") or values.get("_modal_map"):
        raise InputError("a SevenNet model of several modalities is not supported")
    for key in ("act_scalar", "act_gate"):
        if values[key]["e"] != "silu":
            raise InputError(f"a SevenNet model with {key} = {values[key]['e']!r} is not supported (only 'silu')")
    index = {int(z): int(k) for z, k in values["_type_map"].items()}
    numbers = tuple(sorted(index, key=index.__getitem__))
    if sorted(index.values()) != list(range(len(numbers))) or not set(numbers) <= SYMBOLS.keys():
        raise InputError("its table of elements is damaged")
    features = [_irreps(text) for text in values["irreps_manual"]]
    harmonics = tuple(MulIrrep(1, l, 1) for l in range(int(values["lmax"]) + 1))
    # since 0.11 the radial weights stand in the order of the results
    sort = tuple(int(n) for n in str(values["version"]).split(".")[:2]) >= (0, 11)
    layers = []
    for t, (sources, out) in enumerate(pairwise(features)):
        step = convolution(sources, harmonics, out, sort=sort, couplings=_couplings(state, t, rounded))
        maps = linear(sources, gated(out)), linear(sources, sources), step, linear(step.out, gated(out))
        layers.append(Layer(*maps, out))
    cutoff = values["cutoff_function"]
    kind = cutoff["cutoff_function_name"]
    if kind not in ("XPLOR", "poly_cut") or values["radial_basis"]["radial_basis_name"] != "bessel":
        raise InputError(
            f"a SevenNet model with cutoff function {kind!r} or another basis than Bessel's is not supported"
        )
    return SevenNetConfig(
        numbers=numbers,
        cutoff=float(values["cutoff"]),
        cutoff_on=float(cutoff["cutoff_on"]) if kind == "XPLOR" else 0.0,
        p=int(cutoff["poly_cut_p_value"]),
        channels=features[0][0].mul,
        depth=len(values["weight_nn_hidden_neurons"]),
        layers=tuple(layers),
    )


def _irreps(text: Any) -> Irreps:
    """Irreps of even parity from text such as "128x0e+64x1e", scalars first."""
    found = re.findall(r"(\d+)x(\d+)([eo])", str(text))
    irreps = tuple(MulIrrep(int(mul), int(l), 1) for mul, l, _ in found)
    ls = [ir.l for ir in irreps]
    if not ls or ls[0] != 0 or ls != sorted(set(ls)) or any(p != "e" for *_, p in found):
        raise InputError(f"features {text} are not supported: each l once, in ascending order, of even parity")
    return irreps


def _parameters(config: SevenNetConfig, state: dict[str, Tensor]) -> SevenNetParams:
    """The numbers that the energy depends on, float64, by their names in the state dictionary; shapes are checked."""
    count = len(config.numbers)
    sizes = {
        "edge_embedding.basis_function.coeffs": None,
        "onehot_to_feature_x.linear.weight": count * config.channels,
        "reduce_input_to_hidden.linear.weight": None,
        "reduce_hidden_to_energy.linear.weight": None,
        "rescale_atomic_energy.scale": count,
        "rescale_atomic_energy.shift": count,
    }
    for t, layer in enumerate(config.layers):
        parts = ("self_connection_intro", layer.skip), ("self_interaction_1", layer.linear_1)
        for name, part in (*parts, ("self_interaction_2", layer.linear_2)):
            sizes[f"{t}_{name}.linear.weight"] = sum(math.prod(path.shape) for path in part.paths)
        sizes |= {f"{t}_convolution.weight_nn.layer{k}.weight": None for k in range(config.depth)}
        hidden = state[f"{t}_convolution.weight_nn.layer{config.depth}.weight"].array.shape[0]
        sizes[f"{t}_convolution.weight_nn.layer{config.depth}.weight"] = hidden * sum(layer.convolution.sizes)
        sizes[f"{t}_convolution.denominator"] = 1
    params = {}
    for name, size in sizes.items():
        found = state[name].array.size if name in state else 0
        if not found or found != (size or found):
            raise InputError(f"weight {name!r} should have {size or 'some'} numbers, found {found}")
        require_finite(state[name].array, f"weight {name!r}")
        params[name] = state[name].array.astype(np.float64)
    return params
