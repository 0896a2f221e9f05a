"""Every registered family keeps the same promises, shown with a small model in a file of its own format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from small_models import FAMILIES

from wigner_jax.errors import InputError
from wigner_jax.potentials import registry
from wigner_jax.potentials.base import Potential
from wigner_jax.potentials.cards import CARDS, Card, card_of
from wigner_jax.potentials.family import Family, resolve
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.registry import (
    available_potentials,
    family_of,
    load_potential,
    register_family,
    registered_families,
    restrict,
)
from wigner_jax.potentials.saving import ending, save_potential, template_of
from wigner_jax.training.on_forces.initial import usually_fixed
from wigner_jax.training.parameters import adapt, matrices


@pytest.fixture(scope="module", params=[family.name for family in registered_families()])
def case(request, tmp_path_factory):
    """A family, a file of it, the potential in that file, and a rattled crystal."""
    write, name, crystal = FAMILIES[request.param]
    path = write(tmp_path_factory.mktemp("models") / name)
    atoms = bulk(crystal, *{"MgO": ("rocksalt", 4.2), "SiC": ("zincblende", 4.32)}[crystal])
    atoms.rattle(0.05, seed=1)
    (family,) = (f for f in registered_families() if f.name == request.param)
    return family, path, load_potential(path), atoms


def energy(potential, atoms):
    return float(potential.energy(potential.params, build_graph(atoms, potential)[0]))


def test_every_family_has_a_small_model():
    assert [family.name for family in registered_families()] == list(FAMILIES)


def test_its_file_is_read_by_its_name(case):
    family, _, potential, atoms = case
    assert family_of(potential) is family
    assert np.isfinite(energy(potential, atoms))
    assert all(np.asarray(value).dtype == np.float64 for value in jax.tree.leaves(potential.params))


def test_there_is_no_head_to_choose(case):
    family, path, _, _ = case
    with pytest.raises(ValueError, match="no head 'dft'" if family.has_heads else "no heads to choose from"):
        load_potential(path, head="dft")


def test_saved_and_read_again(case, tmp_path):
    """Changed parameters come back; where there is no writer, that is said."""
    family, path, potential, _ = case
    if family.write is None:
        with pytest.raises(InputError, match=rf"there is no file format for {family.name} models"):
            ending(potential)
        with pytest.raises(InputError, match="there is no file format"):
            template_of(potential, path)
        with pytest.raises(InputError, match="there is no file format"):
            save_potential(potential, tmp_path / path.name, path)
        return
    changed = potential.with_params({k: 1.01 * np.asarray(v) for k, v in potential.params.items()})
    target = tmp_path / f"changed{ending(potential)}"
    written = save_potential(changed, target, template_of(potential, path))
    again = load_potential(target)
    for name, value in changed.params.items():
        np.testing.assert_array_equal(again.params[name], written.params[name])
        np.testing.assert_allclose(written.params[name], value, rtol=1e-6)
    with pytest.raises(InputError, match="must end in"):
        save_potential(changed, tmp_path / "changed.other", path)
    if family.needs_template:
        with pytest.raises(InputError, match="needs the file it was read from as a template"):
            save_potential(changed, target)


def test_low_rank_blocks_fill_their_parameter(case):
    family, _, potential, _ = case
    flat = 0
    for name, value in potential.params.items():
        try:
            shapes = matrices(potential, name)
        except InputError:
            continue
        assert sum(n * m for n, m in shapes) == np.size(value)
        flat += np.ndim(value) == 1
        merged, trained, frozen = adapt(potential, train=[], lora=[name], rank=1)
        trained = {key: jnp.ones_like(x) for key, x in trained.items()}
        assert np.shape(merged.merge(trained, frozen)[name]) == np.shape(value)
    assert (flat > 0) == (family.blocks is not None)


def test_what_is_usually_fixed_exists(case):
    family, _, potential, _ = case
    names = usually_fixed(potential)
    assert set(names) < set(potential.params)
    assert bool(names) == (family.usually_fixed is not None)


def test_random_weights_to_start_from(case):
    family, _, potential, atoms = case
    if family.initial is None:
        return
    start = resolve(family.initial)(potential, np.random.default_rng(0), np.arange(len(potential.species)), 0.5)
    assert {k: np.shape(v) for k, v in start.params.items()} == {k: np.shape(v) for k, v in potential.params.items()}
    assert np.isfinite(energy(start, atoms))
    assert any(not np.array_equal(start.params[k], v) for k, v in potential.params.items())


def test_fewer_elements_have_the_same_energy(case):
    family, _, potential, atoms = case
    small = restrict(potential, atoms.numbers)
    assert (len(small.species) < len(potential.species)) == (family.restrict is not None)
    np.testing.assert_allclose(energy(small, atoms), energy(potential, atoms), rtol=1e-12)
    with pytest.raises(ValueError, match="does not know Xe"):
        restrict(potential, [54])


def test_every_model_has_a_card_of_its_family(case):
    family, _, potential, _ = case
    assert {card.name for card in family.cards} == {*family.built_in, *family.models}
    assert set(family.aliases.values()) <= {*family.built_in, *family.models}
    assert set(family.companions) <= set(family.models)
    assert card_of(potential) is CARDS.get(potential.name)


def test_built_in_models_are_of_their_family(case):
    family, *_ = case
    for name in family.built_in:
        potential = load_potential(name)
        assert potential.name == name
        assert family_of(potential) is family


# --- a family of one's own -------------------------------------------------------------------------------------------


def springs(params, graph):
    """½ Σ k (r − r0)² of all pairs, smooth nowhere: enough for a file."""
    r = jnp.sqrt(jnp.sum(graph.vectors() ** 2, axis=-1))
    return 0.25 * jnp.sum(jnp.where(graph.edge_mask, params["k"] * (r - params["r0"]) ** 2, 0.0))


def read_springs(path):
    params = {name: np.asarray(value) for name, value in json.loads(Path(path).read_text()).items()}
    return Potential(params, springs, Path(path).stem, (11, 17), 3.5)


def write_springs(potential, _, path):
    path.write_text(json.dumps({name: float(value) for name, value in potential.params.items()}))
    return potential


SPRINGS = Family(
    name="springs",
    energies=(springs,),
    endings=(".springs.json",),
    read=read_springs,
    write=f"{__name__}:write_springs",
    needs_template=False,
    built_in={"salt-springs": lambda name: Potential({"k": 2.0, "r0": 2.8}, springs, name, (11, 17), 3.5)},
    aliases={"salt": "salt-springs"},
    cards=(Card("salt-springs", "springs", (11, 17), 3.5, 2, "none needed", 0, "E jumps at the cutoff", "here"),),
)


@pytest.fixture
def springs_known(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    register_family(SPRINGS)


@pytest.mark.usefixtures("springs_known")
def test_a_registered_family_is_known_everywhere(tmp_path):
    potential = load_potential("Salt")
    assert potential.name == "salt-springs" == available_potentials()[-1]
    assert card_of(potential) is CARDS["salt-springs"]
    assert ending(potential) == ".springs.json"
    path = tmp_path / "mine.springs.json"
    save_potential(potential.with_params({"k": 3.0, "r0": 2.7}), path)
    assert load_potential(path).params == {"k": 3.0, "r0": 2.7}
    assert usually_fixed(potential) == []
    assert restrict(potential, [11]) is potential


@pytest.mark.usefixtures("springs_known")
def test_names_are_given_once():
    with pytest.raises(InputError, match="a family named 'springs' is registered already"):
        register_family(SPRINGS)
    with pytest.raises(InputError, match="the name 'sw-si' belongs to another potential"):
        register_family(Family(name="x", energies=(), endings=(".x",), read=read_springs, aliases={"sw-si": "y"}))
    assert load_potential("tersoff").name == "tersoff-1989"


def test_nobody_s_potential_can_be_used_but_not_saved(tmp_path):
    potential = load_potential("tersoff")
    own = Potential(potential.params, lambda params, graph: 0.0, "mine", (6,), 3.0)
    assert family_of(own) is None
    assert usually_fixed(own) == []
    with pytest.raises(InputError, match="mine: there is no file format for a potential of no registered family"):
        save_potential(own, tmp_path / "own.json")


# --- what is imported, and when --------------------------------------------------------------------------------------


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_no_architecture_is_imported_before_it_is_used():
    models = {f"wigner_jax.potentials.{name}.model" for name in ("mace", "nequix", "sevennet", "chgnet", "m3gnet")}
    late = {*models, "flax", "orbax", "orbax.checkpoint"}
    assert not late & imported("import wigner_jax, wigner_jax.potentials.cards as c; list(c.CARDS)")
    found = imported(
        "import wigner_jax; p = wigner_jax.load_potential('tersoff-1989'); assert p.name == 'tersoff-1989'"
    )
    assert not late & found
    assert "wigner_jax.potentials.empirical.model" in found
    found = imported("import wigner_jax; wigner_jax.load_potential('mace-bundled')")
    assert late & found == {"wigner_jax.potentials.mace.model"}


def test_every_public_name_exists():
    import wigner_jax.potentials as public

    assert all(getattr(public, name) is not None for name in public.__all__)
    assert set(public._MODULES) == set(public.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = public.nothing
