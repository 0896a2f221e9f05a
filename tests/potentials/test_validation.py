"""`check_potential`: sound potentials pass, and each way of being broken is named, with the number and the remedy."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, molecule
from small_models import FAMILIES

from wigner_jax.errors import InputError
from wigner_jax.potentials import check_potential, load_potential
from wigner_jax.potentials.base import Distances, Potential

CUTOFF = 5.0  # Å
CRYSTALS = {
    "MgO": bulk("MgO", "rocksalt", a=4.2),
    "SiC": bulk("SiC", "zincblende", a=4.32),
    "Si": bulk("Si", a=5.43),
    "NaCl": bulk("NaCl", "rocksalt", a=5.69),
}


def pairs(params, graph):
    """ε Σ e^{−r} f(r)."""
    r = lengths(graph)
    return params["depth"] * jnp.sum(jnp.where(graph.edge_mask, jnp.exp(-r) * envelope(r), 0.0))


def envelope(r):
    """From 1 to 0 at the cutoff, where three derivatives vanish too."""
    return jnp.where(r < CUTOFF, (1 - (r / CUTOFF) ** 2) ** 4, 0.0)


def lengths(graph):
    return jnp.sqrt(jnp.sum(graph.vectors() ** 2, axis=-1))


def sound(energy=pairs, **changes):
    values = {
        "params": {"depth": np.asarray(3.0)},
        "energy": energy,
        "name": "mine",
        "species": (11, 17),
        "cutoff": CUTOFF,
    }
    return Potential(**{**values, **changes})


# --- sound potentials ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "crystal"), [("tersoff-1989", "SiC"), ("stillinger-weber-si", "Si")])
def test_potentials_in_closed_form_pass(name, crystal):
    report = check_potential(load_potential(name), CRYSTALS[crystal])
    assert report.passed, str(report)
    jumps = [note.text for note in report.notes if note.check == "smoothness"]
    # Tersoff's f_C is C¹: six jumps, R and S of three pairs; all derivatives of Stillinger–Weber vanish at its cutoff
    assert len(jumps) == (6 if name == "tersoff-1989" else 0)
    assert all(text.startswith("E'' jumps by ") for text in jumps)
    assert sum("as nonsmooth_distances says" in text for text in jumps) == len(jumps) / 2


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("MACE", "closed form") else pytest.mark.slow) for n in FAMILIES]
)
def test_a_model_of_every_family_passes(name, tmp_path):
    """What each is known for is noted. matgl's M3GNet has forces that jump at the cutoff, which its card says too."""
    write, file, crystal = FAMILIES[name]
    report = check_potential(load_potential(write(tmp_path / file)), CRYSTALS[crystal])
    if name == "M3GNet":
        assert report.faults
        assert all(f.check == "smoothness" and f.text.startswith("E' jumps") for f in report.faults)
    else:
        assert report.passed, str(report)
    if name == "SevenNet":
        assert sum("E'' jumps" in f.text for f in report.notes) == 6
        assert "parity is False" in str(report)


@pytest.mark.slow
def test_the_bundled_model_passes():
    potential = load_potential("mace-bundled")
    report = check_potential(potential, CRYSTALS["NaCl"])
    assert report.passed, str(report)


def test_a_sound_potential_of_one_s_own():
    report = check_potential(sound(), CRYSTALS["NaCl"])
    assert report.passed
    assert not report.notes
    assert str(report).startswith("mine: no fault found\n  ok     static fields:")
    assert len({f.check for f in report.findings}) == 14


# --- broken ones, one for each check ---------------------------------------------------------------------------------


def two_numbers(params, graph):
    return params["depth"] * jnp.sum(graph.vectors(), axis=1)


def branching(params, graph):
    return pairs(params, graph) if params["depth"] > 0 else 0.0


def single(params, graph):
    return pairs(params, graph).astype(jnp.float32)


def single_inside(params, graph):
    return params["depth"].astype(jnp.float32).astype(float) * pairs({"depth": 1.0}, graph)


def constant_weights(params, graph):
    return pairs({"depth": 3.0}, graph) + 0 * params["depth"]


def unguarded(params, graph):
    """The mean neighbour vector of each atom, squared: 0/0 where an atom has no neighbours."""
    weight = jnp.where(graph.edge_mask, envelope(lengths(graph)), 0.0)
    total = jax.ops.segment_sum(weight[:, None] * graph.vectors(), graph.receivers, graph.n_atoms)
    share = jax.ops.segment_sum(weight, graph.receivers, graph.n_atoms)
    return params["depth"] * jnp.sum(total**2 / share[:, None] ** 2)


def stopped(params, graph):
    return pairs(params, graph) * (1 + 0.1 * jax.lax.stop_gradient(pairs(params, graph)))


@jax.custom_jvp
def cubed(x):
    return x**3


@cubed.defjvp
def _cubed(primals, tangents):
    return primals[0] ** 3, 3 * jax.lax.stop_gradient(primals[0] ** 2) * tangents[0]


def second_stopped(params, graph):
    return cubed(pairs(params, graph))


def fixed_in_space(params, graph):
    return pairs(params, graph) + 1e-3 * jnp.sum(graph.positions**2)


def along_x(params, graph):
    r, x = lengths(graph), graph.vectors()[:, 0]
    return pairs(params, graph) + jnp.sum(jnp.where(graph.edge_mask, x**2 * envelope(r), 0.0))


def by_number(params, graph):
    r, charge = lengths(graph), jnp.arange(graph.n_atoms)[graph.senders]
    return pairs(params, graph) + jnp.sum(jnp.where(graph.edge_mask, charge * envelope(r), 0.0))


def handed(params, graph):
    """Σ_i a·(b × c) of three polar moments of its neighbours: changes its sign in a mirror."""
    v, r = graph.vectors(), lengths(graph)
    moments = [
        jax.ops.segment_sum(
            jnp.where(graph.edge_mask, envelope(r) * r**k, 0.0)[:, None] * v,
            graph.receivers, graph.n_atoms,
        )
        for k in range(3)
    ]  # fmt: skip
    return pairs(params, graph) + jnp.sum(moments[0] * jnp.cross(moments[1], moments[2]))


def mean_over_atoms(params, graph):
    return pairs(params, graph) / graph.n_atoms


def counts_padding(params, graph):
    return params["depth"] * jnp.sum(jnp.exp(-lengths(graph)) * envelope(lengths(graph))) + 1e-3 * len(graph.edge_mask)


def truncated(params, graph):
    return params["depth"] * jnp.sum(jnp.where(graph.edge_mask, jnp.exp(-lengths(graph)), 0.0))


def shifted(params, graph):
    r = lengths(graph)
    return params["depth"] * jnp.sum(jnp.where(graph.edge_mask, jnp.exp(-r) - np.exp(-CUTOFF), 0.0))


def bent(params, graph):
    r = lengths(graph)
    return params["depth"] * jnp.sum(jnp.where(graph.edge_mask, jnp.where(r < 3.5, 1.0, 1 + (r - 3.5)) * jnp.exp(-r), 0.0)
                                     * envelope(r))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Listed:
    sizes: list

    def __call__(self, params, graph):
        return pairs(params, graph)


class ByIdentity:
    def __call__(self, params, graph):
        return pairs(params, graph)


def made_here(value):
    return lambda params, graph: value * pairs(params, graph)


def made_here_without_weights():
    def inner(params, graph):
        return pairs(params, graph)

    return inner


BROKEN = [
    (sound(pair_cutoffs=((5.0,),)), "static fields", r"shape \(1, 1\) for 2 species"),
    (sound(pair_cutoffs=((5.0, 4.0), (4.5, 5.0))), "static fields", "not symmetric"),
    (sound(pair_cutoffs=((5.0, 6.0), (6.0, 5.0))), "static fields", "reaches 6 Å, beyond cutoff = 5 Å"),
    (
        sound(distances=lambda params: Distances(6.0)),
        "static fields",
        r"distances\(params\) gives Distances\(cutoff=6.0",
    ),
    (sound(nonsmooth_distances=((0, 2, 4.0),)), "static fields", "names species 2, but they are numbered 0 to 1"),
    (sound(nonsmooth_distances=((0, 1, 5.5),)), "static fields", r"5\.5 Å, beyond the cutoff"),
    (sound(species=(11, 17, 500)), "static fields", "500, which is no atomic number"),
    (sound(Listed([1])), "jit key", "cannot be hashed .*module-level function, or a frozen dataclass"),
    (sound(ByIdentity()), "jit key", "a copy of energy is not equal to it"),
    (sound(partial(pairs)), "jit key", "energy is a partial, each new one compiles anew"),
    (sound(made_here(2.0)), "jit key", "closure over value: its numbers would be folded .* pass them in params"),
    (sound(made_here_without_weights()), "jit key", "each new one compiles anew"),
    (sound(two_numbers), "shape", r"returns shape \(\d+,\), not one number"),
    (sound(branching), "shape", "cannot be traced: TracerBoolConversionError"),
    (sound(single), "precision", "the energy is float32 although positions and parameters are float64"),
    (sound(single_inside), "precision", "numbers inside the energy are float32"),
    (sound(params={"depth": np.float32(3)}), "precision", "parameters are float32, not float64"),
    (sound(constant_weights), "parameters", "depends on none of them"),
    (sound(unguarded), "finite", "not finite: energy of isolated atoms of Na; guard the input"),
    (sound(stopped), "derivatives", r"forces are not the derivative of the energy: off by \d"),
    (sound(second_stopped), "derivatives", r"second derivatives are not those of the forces: off by \d"),
    (sound(fixed_in_space), "translation", r"changes the energy by \d.* eV/atom.*graph.vectors\(\) alone"),
    (sound(along_x), "rotation", r"changes the energy by \d.* eV/atom"),
    (sound(by_number), "permutation", r"changes the energy by \d.* eV/atom.*not on its number"),
    (sound(handed), "mirror image", r"changes .* by \d.*set parity=False"),
    (sound(mean_over_atoms), "extensivity", r"differ from twice one cell: the energy by \d"),
    (sound(counts_padding), "padding", r"more padding changes the energy by \d.*edge_mask False"),
    (sound(truncated), "smoothness", r"E jumps by -\S+ eV where a pair Na–Na crosses 5 Å: multiply by a function"),
    (sound(shifted), "smoothness", r"E' jumps by \S+ eV/Å where a pair Na–Cl crosses 5 Å"),
    (
        sound(bent, nonsmooth_distances=((0, 1, 3.5),)),
        "smoothness",
        r"E' jumps by \S+ eV/Å where .* Na–Cl crosses 3\.5 Å",
    ),
]


@pytest.mark.parametrize(("potential", "check", "text"), BROKEN, ids=[f"{c}-{k}" for k, (_, c, _) in enumerate(BROKEN)])
def test_what_is_broken_is_named(potential, check, text):
    report = check_potential(potential, CRYSTALS["NaCl"])
    assert not report.passed
    found = "\n".join(f.text for f in report.faults if f.check == check)
    assert re.search(text, found), str(report)
    assert f"  fault  {check}: " in str(report)


def test_parameters_that_have_no_effect_are_a_note():
    report = check_potential(sound(params={"depth": np.asarray(3.0), "spare": np.zeros(4)}), CRYSTALS["NaCl"])
    assert report.passed
    (note,) = report.notes
    assert note.text.startswith("this crystal's energy does not depend on spare")


def no_parameters(params, graph):
    return pairs({"depth": 3.0}, graph)


def test_no_parameters_at_all():
    report = check_potential(sound(no_parameters, params={}), CRYSTALS["NaCl"])
    assert [f.check for f in report.faults] == ["parameters"]
    assert "there are none" in report.faults[0].text


def test_a_handed_potential_passes_if_it_says_so():
    assert check_potential(sound(handed, parity=False), CRYSTALS["NaCl"]).passed


# --- misuse ----------------------------------------------------------------------------------------------------------


def test_misuse_raises():
    with pytest.raises(InputError, match="tests a Potential, not str"):
        check_potential("tersoff-1989", CRYSTALS["Si"])
    with pytest.raises(InputError, match="tolerance must be positive"):
        check_potential(sound(), CRYSTALS["NaCl"], tolerance=0)
    with pytest.raises(ValueError, match="periodic in three directions"):
        check_potential(sound(), molecule("NaCl"))
    with pytest.raises(ValueError, match="does not know O, Mg"):
        check_potential(sound(), CRYSTALS["MgO"])
    with pytest.raises(InputError, match="no two atoms are within the cutoff of 2 Å"):
        check_potential(sound(cutoff=2.0), CRYSTALS["NaCl"])
