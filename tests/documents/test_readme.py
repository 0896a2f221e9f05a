"""What the README says is run: its Python, its commands, and that what it links to exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from wigner_jax import WignerCalculator
from wigner_jax.cli.app import build_parser
from wigner_jax.crystal import prototypes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(programs: list[str]) -> dict:
    """As they stand, with smaller meshes and supercells."""
    program = re.sub(r"mesh=\(\d+, \d+, \d+\)", "mesh=(3, 3, 3)", "\n".join(programs))
    program = program.replace("default_cells(atoms)", "default_cells(atoms, (2, 2, 2), (2, 2, 2))")
    names: dict = {}
    exec(program, names)
    return names


def test_the_python_runs() -> None:
    programs = blocks("python")[:2]
    assert "\n".join(programs).count("mesh=(") == 2
    names = run(programs)
    kappa = np.asarray(names["solution"].conductivity.kappa_TOT)
    assert kappa.shape == (2, 6)
    assert kappa[0, 0] > kappa[1, 0] > 10
    gradient = names["gradient"]
    assert jax.tree.structure(gradient) == jax.tree.structure(names["potential"].params)
    leaves = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])
    assert np.isfinite(leaves).all()
    assert np.abs(leaves).max() > 1


@pytest.mark.slow
def test_the_training_runs(capsys, tmp_path, monkeypatch) -> None:
    """The loss falls from step to step; three frames are reproduced."""
    programs = blocks("python")
    assert len(programs) == 4
    rng, frames = np.random.default_rng(0), []
    for _ in range(3):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.rattle(0.05, rng=rng)
        forces = 1.1 * WignerCalculator("mace-bundled").get_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, forces=forces)
        frames.append(atoms)
    ase.io.write(tmp_path / "frames.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    names = run(programs)
    assert names["found"].converged
    assert names["found"].losses[-1] < 1e-3 * names["found"].losses[0]
    for atoms in frames:
        found = WignerCalculator(names["tuned"]).get_forces(atoms)
        np.testing.assert_allclose(found, atoms.get_forces(), atol=0.03 * np.abs(atoms.get_forces()).max())
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines() if re.match(r"\d+ \d", line)]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


def test_the_gradient_is_the_slope() -> None:
    """jax.grad of κ along a random change of all parameters against central differences."""
    import wigner_jax as wj

    potential = wj.load_potential("tersoff-1989")
    atoms, _ = wj.relax(wj.prototype("Si"), potential)
    cells = wj.default_supercells(atoms, (2, 2, 2), (2, 2, 2))
    plan, constants = wj.make_plan(cells, mesh=(3, 3, 3)), wj.force_constants_fn(cells, potential)

    def kappa_xx(params):
        return sum(wj.kappa(plan, constants(params), broadening=wj.AdaptiveGaussian()))[0, 0]

    rng = np.random.default_rng(1)
    params = potential.params
    smooth = {k: k not in ("R", "S") for k in params}  # the cutoffs: no atom is near them
    direction = {k: v * rng.normal(size=np.shape(v)) * smooth[k] for k, v in params.items()}
    gradient = jax.grad(kappa_xx)(params)
    slope = sum(float(np.vdot(gradient[k], direction[k])) for k in params)
    h = 1e-5

    def at(x):
        return float(kappa_xx({k: params[k] + x * direction[k] for k in params}))

    np.testing.assert_allclose(slope, (at(h) - at(-h)) / (2 * h), rtol=1e-5)


def test_the_commands_parse() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()] + re.findall(
        r"`(wigner-jax [^`]+)`", README
    )
    commands = [c.strip() for line in lines for c in line.split("&&") if c.strip().startswith("wigner-jax")]
    assert len(commands) >= 6
    for command in commands:
        arguments = shlex.split(command)[1:]
        if "--help" not in arguments:
            assert build_parser().parse_args(arguments).run in ("kappa", "plot", "benchmark", "models", "finetune")


def test_what_it_names_exists() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target
    named = re.findall(r"`(\w+)`", re.search(r"a name \(([^)]*)\)", README)[1])
    assert len(named) >= 4
    assert set(named) <= set(prototypes.available_prototypes())


def test_continuous_integration_runs_the_same_command() -> None:
    (command,) = [b.strip() for b in blocks("bash") if "pytest" in b]
    assert command in (ROOT / ".ci/run").read_text().splitlines()
