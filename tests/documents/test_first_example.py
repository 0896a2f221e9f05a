"""The README's example gives what it says: numbers of the right size and shape, and a gradient that is the slope."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from pages import ROOT, blocks

import wigner_jax as wj


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Names after both blocks, with smaller meshes."""
    program = "\n".join(b.body for b in blocks(ROOT / "README.md", "python"))
    assert program.count("(11, 11, 11)") == program.count("(5, 5, 5)") == 1
    program = program.replace("(11, 11, 11)", "(3, 3, 3)").replace("(5, 5, 5)", "(3, 3, 3)")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("example"))
        # the suite has a cache of its own
        patch.setattr(wj, "enable_compilation_cache", lambda: None)
        exec(program, names)
        assert Path("si.hdf5").is_file()
    return names


def test_conductivity(example) -> None:
    kappa = np.asarray(example["solution"].conductivity.kappa_TOT)
    assert kappa.shape == (2, 6)
    assert kappa[0, 0] > kappa[1, 0] > 10
    np.testing.assert_allclose(kappa[:, :3], kappa[:, :1] * np.ones(3), rtol=1e-9)


def test_gradient_is_the_slope(example) -> None:
    """Along a random change of all parameters against central differences."""
    kappa_xx, params, gradient = example["kappa_xx"], example["potential"].params, example["gradient"]
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    rng = np.random.default_rng(1)
    smooth = {k: k not in ("R", "S") for k in params}  # the cutoffs: no atom is near them
    direction = {k: v * rng.normal(size=np.shape(v)) * smooth[k] for k, v in params.items()}
    slope = sum(float(np.vdot(gradient[k], direction[k])) for k in params)
    h = 1e-5

    def at(x):
        return float(kappa_xx({k: params[k] + x * direction[k] for k in params}))

    assert abs(slope) > 1
    np.testing.assert_allclose(slope, (at(h) - at(-h)) / (2 * h), rtol=1e-5)
