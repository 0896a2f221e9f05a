"""From a MACE checkpoint to configuration and parameters, without torch."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.reading import positive_number, whole_number
from ...checks import require_finite
from ...crystal.elements import SYMBOLS
from ...errors import InputError
from ..base import LONGEST
from ..layers.equivariant import ACTIVATION_NORMS, ACTIVATIONS, MAX_L, Constant, Irreps, Linear, MulIrrep, Path
from ..readers.torch_archive import Stub, Tensor, tensors
from .config import (
    ConvPath,
    Gate,
    Interaction,
    MaceConfig,
    Nonlinearity,
    Product,
    Radial,
    Readout,
    Selector,
    SelectorPath,
)
from .interaction import BLOCKS
from .product import build_product
from .radial import SUPPORTED_BASES, SUPPORTED_TRANSFORMS

if TYPE_CHECKING:
    from .config import MaceParams


MODELS = {"MACE": False, "ScaleShiftMACE": True}
READOUTS = {
    "LinearReadoutBlock": ("linear",),
    "NonLinearReadoutBlock": ("linear_1", "linear_2"),
    "NonLinearBiasReadoutBlock": ("linear_1", "linear_mid", "linear_2"),
    "GeneralNonLinearBiasReadoutBlock": ("linear_1", "linear_mid", "linear_2"),
}
#: Entries of a state dictionary that are not parameters of the energy: tables, masks, copies of hyper-parameters
_TABLES = re.compile(
    r"(^|\.)(U_matrix_\d+|\w+_zeroed|output_mask|covalent_radii|r_max|_w3j_\w+|atomic_numbers|num_interactions"
    r"|cutoff_fn\.p|pair_repulsion_fn\.p)$"
)
#: Parameters that are buffers in torch unless the model was made to train them
FIXED = re.compile(r"^(radial_embedding|pair_repulsion_fn|atomic_energies_fn|scale_shift)\.")


def parameters(found: dict[str, Tensor]) -> MaceParams:
    """The numbers that the energy depends on, float64, by their names in the state dictionary.

    Raises:
        InputError: if one of them is not finite.
    """
    params = {}
    for name, tensor in found.items():
        if _TABLES.search(name) or tensor.array.size == 0 or tensor.array.dtype.kind != "f":
            continue
        require_finite(tensor.array, f"weight {name!r}")
        params[name] = tensor.array.astype(np.float64)
    return params


def configuration(model: Stub, head: str | None = None) -> MaceConfig:
    """Hyper-parameters of a pickled model.

    Args:
        model: the root of the archive.
        head: which of the model's heads; by default the only one, or the one named "default".

    Raises:
        InputError: for a model, block, readout, radial basis or transform that is not MACE's published ones, by name.
    """
    if not isinstance(model, Stub) or model.kind() not in MODELS:
        found = model.path if isinstance(model, Stub) else type(model).__name__
        raise InputError(f"the file holds {found!r}, not a MACE model ({', '.join(MODELS)})")
    if model.find("joint_embedding") is not None:
        raise InputError("this MACE model needs charges or spins as input (joint embedding), which is not supported")
    numbers = tuple(int(z) for z in _array(model, "atomic_numbers"))
    if unknown := [z for z in numbers if z not in SYMBOLS]:
        raise InputError(f"the model lists atomic number {unknown[0]}")
    count = whole_number(int(_array(model, "num_interactions")), "num_interactions", 1, 100)
    blocks = [_need(model, f"interactions.{t}") for t in range(count)]
    products = [_need(model, f"products.{t}") for t in range(count)]
    readouts = list((_need(model, "readouts").state.get("_modules") or {}).values())
    heads = tuple(str(h) for h in model.find("heads") or ("Default",))
    U = [t.array for n, t in tensors(model).items() if "U_matrix" in n]
    return MaceConfig(
        numbers=numbers,
        radial=_radial(model, numbers),
        interactions=tuple(_interaction(b) for b in blocks),
        products=tuple(_product(p, b) for p, b in zip(products, blocks, strict=True)),
        readouts=tuple(_readout(r, len(heads)) for r in readouts),
        heads=heads,
        head=choose_head(heads, head),
        scaled=MODELS[model.kind()],
        single=all(np.array_equal(u, u.astype(np.float32)) for u in U),
    )


def choose_head(heads: tuple[str, ...], head: str | None) -> int:
    """Index of a head by name; InputError with the names if there is a choice and none was made."""
    if head is None:
        candidates = [k for k, name in enumerate(heads) if name.lower() == "default"] if len(heads) > 1 else [0]
    else:
        candidates = [k for k, name in enumerate(heads) if name == head]
    if not candidates:
        what = "has several heads" if head is None else f"has no head {head!r}"
        raise InputError(f"the model {what}: choose one of {', '.join(heads)}")
    return candidates[0]


def _need(stub: Stub, name: str) -> Any:
    found = stub.find(name)
    if found is None:
        raise InputError(f"the {stub.kind()} in this file has no {name!r}: not a MACE model of a known version")
    return found


def _array(stub: Stub, name: str) -> np.ndarray:
    value = _need(stub, name)
    return value.array if isinstance(value, Tensor) else np.asarray(getattr(value, "array", value))


def irreps_of(value: Any) -> Irreps:
    """Irreps from their pickled form, or from text such as "128x0e+128x1o"."""
    if isinstance(value, str):
        found = re.findall(r"(?:(\d+)\s*x\s*)?(\d+)([eo])", value)
        return tuple(MulIrrep(int(mul or 1), _l(l), 1 if p == "e" else -1) for mul, l, p in found)
    entries = []
    for item in value.args[0] if isinstance(value, Stub) else value:
        mul, ir = item.args[0] if isinstance(item, Stub) else item
        l, p = ir.args[0] if isinstance(ir, Stub) else ir
        entries.append(MulIrrep(int(mul), _l(l), int(p)))
    return tuple(entries)


def _l(value: Any) -> int:
    return whole_number(int(value), "an angular momentum", 0, MAX_L)


def _linear(module: Stub) -> Linear:
    if module.path != "e3nn.o3._linear.Linear":
        raise InputError(
            f"the file has a linear layer of type {module.path!r}; only e3nn's are read: convert the model to its"
            " e3nn form with mace-torch (mace_cueq_to_e3nn, or merging LoRA weights) and save it again"
        )
    paths, biases = [], []
    for instruction in _need(module, "instructions"):
        source, target, shape, weight = instruction.args
        if source == -1:
            biases.append(int(target))
        else:
            paths.append(Path(int(source), int(target), (int(shape[0]), int(shape[1])), float(weight)))
    return Linear(tuple(paths), irreps_of(_need(module, "irreps_out")), tuple(biases))


def _skip(module: Stub) -> Selector | Linear:
    if module.kind() == "Linear":
        return _linear(module)
    sources = irreps_of(_need(module, "irreps_in1"))
    paths = []
    for instruction in _need(module, "instructions"):
        source, _, target, mode, _, weight, shape = instruction.args
        if mode != "uvw":
            raise InputError(f"a skip connection of mode {mode!r} is not supported")
        scale = float(weight) / math.sqrt(sources[source].dim)  # the coupling l ⊗ 0 → l is δ/√(2l + 1)
        paths.append(SelectorPath(int(source), int(target), tuple(int(n) for n in shape), scale))  # type: ignore[arg-type]
    return Selector(tuple(paths), irreps_of(_need(module, "irreps_out")))


def _activation(module: Any) -> tuple[str, float]:
    """Name and norm of a `normalize2mom` module; no name for the identity."""
    if module is None:
        return "", 1.0
    name = _function(module.find("f"))
    return name, 1.0 if module.find("_is_id") else float(_need(module, "cst"))


def _function(value: Any) -> str:
    if not (isinstance(value, type) and issubclass(value, Stub)) or value.kind() not in ACTIVATIONS:
        found = value.path if isinstance(value, type) and issubclass(value, Stub) else repr(value)
        raise InputError(f"activation {found} is not supported ({', '.join(ACTIVATIONS)})")
    return value.kind()


def _radial(model: Stub, numbers: tuple[int, ...]) -> Radial:
    embedding = _need(model, "radial_embedding")
    basis, transform = _need(embedding, "bessel_fn"), embedding.find("distance_transform")
    repulsion = model.find("pair_repulsion_fn")
    for module, known in ((basis, SUPPORTED_BASES), (transform, SUPPORTED_TRANSFORMS)):
        if module is not None and module.kind() not in known:
            raise InputError(f"radial module {module.kind()!r} is not supported ({', '.join(sorted(known))})")
    table = next((m for m in (transform, repulsion) if m is not None), None)
    radii = None if table is None else np.asarray(_array(table, "covalent_radii"), np.float64)
    if radii is not None and not (radii.ndim == 1 and len(radii) > max(numbers)):
        raise InputError(f"covalent_radii has shape {radii.shape}, which lacks the element {max(numbers)}")
    if radii is not None:
        require_finite(radii[list(numbers)], "covalent radii")
    applied = embedding.find("apply_cutoff")
    return Radial(
        basis=basis.kind(),
        size=whole_number(_need(embedding, "out_dim"), "out_dim", 1, 10_000),
        r_max=positive_number(_array(model, "r_max"), "r_max", LONGEST),
        p=whole_number(int(_array(embedding, "cutoff_fn.p")), "cutoff_fn.p", 1, 100),
        transform="" if transform is None else transform.kind(),
        cutoff_on_basis=True if applied is None else bool(applied),
        repulsion=0
        if repulsion is None
        else whole_number(int(_array(repulsion, "p")), "the power of the repulsion", 1, 100),
        radii=None if radii is None else Constant(radii),
    )


def _interaction(block: Stub) -> Interaction:
    if block.kind() not in BLOCKS:
        raise InputError(f"interaction block {block.kind()!r} is not supported ({', '.join(BLOCKS)})")
    conv = _need(block, "conv_tp")
    paths = []
    for instruction in _need(conv, "instructions"):
        source, harmonic, target, mode, _, weight, _ = instruction.args
        if mode != "uvu":
            raise InputError(f"a convolution of mode {mode!r} is not supported")
        paths.append(ConvPath(int(source), int(harmonic), int(target), float(weight)))
    nonlinear = block.find("equivariant_nonlin")
    norm = 1.0 if nonlinear is not None else _activation(_need(block, "conv_tp_weights.layer0.act"))[1]
    return Interaction(
        kind=block.kind(),
        linear_up=_linear(_need(block, "linear_up")),
        harmonics=tuple(ir.l for ir in irreps_of(_need(conv, "irreps_in2"))),
        sources=irreps_of(_need(conv, "irreps_in1")),
        middle=irreps_of(_need(conv, "irreps_out")),
        paths=tuple(paths),
        linear=_linear(_need(block, "linear" if nonlinear is None else "linear_1")),
        skip=_skip(_need(block, "skip_tp")),
        neighbors=positive_number(_array(block, "avg_num_neighbors"), "avg_num_neighbors"),
        activation_norm=norm,
        nonlinearity=None
        if nonlinear is None
        else Nonlinearity(_gate(nonlinear), _linear(_need(block, "linear_res")), _linear(_need(block, "linear_2"))),
    )


def _gate(module: Stub) -> Gate:
    scalars = irreps_of(_need(module, "irreps_scalars"))
    gated = irreps_of(_need(module, "irreps_gated"))
    if any((ir.l, ir.p) != (0, 1) for ir in scalars):
        raise InputError("a gate with odd scalars is not supported")
    norms = []
    for new, old, default in (("_scalar_cst", "act_scalars", "silu"), ("_gate_cst", "act_gates", "sigmoid")):
        value = module.find(new)
        if value is None:  # e3nn's Gate, before mace-torch had its own
            act = module.find(f"{old}.acts.0")
            value = ACTIVATION_NORMS[default] if act is None else _activation(act)[1]
        norms.append(float(value))
    return Gate(sum(ir.mul for ir in scalars), gated, norms[0], norms[1])


def _product(module: Stub, block: Stub) -> Product:
    contractions = (_need(module, "symmetric_contractions.contractions").state.get("_modules") or {}).values()
    outputs = irreps_of(_need(module, "symmetric_contractions.irreps_out"))
    tables = []
    for contraction, ir in zip(contractions, outputs, strict=True):
        correlation = whole_number(_need(contraction, "correlation"), "correlation", 1, 8)
        dim = sum(irrep.dim for irrep in irreps_of(_need(block, "target_irreps")))
        table = []
        for v in range(1, correlation + 1):
            U = _array(contraction, f"U_matrix_{v}")
            name = "weights_max" if v == correlation else f"weights.{correlation - 1 - v}"
            table.append((name, U.astype(np.float64).reshape(ir.dim, *[dim] * v, U.shape[-1])))
        tables.append(table)
    return build_product(
        tables,
        _linear(_need(module, "linear")),
        residual=bool(module.find("use_sc")),
        agnostic=bool(module.find("use_agnostic_product")),
    )


def _readout(module: Stub, heads: int) -> Readout:
    if module.kind() not in READOUTS:
        raise InputError(f"readout {module.kind()!r} is not supported ({', '.join(READOUTS)})")
    names = READOUTS[module.kind()]
    layers = tuple(_linear(_need(module, name)) for name in names)
    activation, norm = "", 1.0
    if (gate := module.find("equivariant_nonlin")) is not None:
        if irreps_of(_need(gate, "irreps_gated")):
            raise InputError(f"readout {module.kind()!r} with gated tensors is not supported")
        activation, norm = _function(gate.find("_act_scalar")), float(_need(gate, "_scalar_cst"))
    elif len(names) > 1:
        activation, norm = _activation(module.find("non_linearity.acts.0"))
    return Readout(
        kind=module.kind(),
        layers=layers,
        names=names,
        activation=activation,
        activation_norm=norm,
        masked=heads > 1 and int(module.find("num_heads") or 1) > 1,
    )
