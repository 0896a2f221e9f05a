"""Born charges and dielectric tensors that cannot be, or that the projection would change without a word."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import ase.build
import numpy as np
import pytest

from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.io.born import born_from_yaml, read_born
from wigner_jax.physics.nac import make_nac
from wigner_jax.types import BornCharges

if TYPE_CHECKING:
    from pathlib import Path

SiC = supercells_from_atoms(ase.build.bulk("SiC", "zincblende", a=4.36), (2, 2, 2), (1, 1, 1))
EPSILON, Z = 6.5 * np.eye(3), np.array([2.7 * np.eye(3), -2.7 * np.eye(3)])


def born(charges: np.ndarray = Z, dielectric: np.ndarray = EPSILON, factor: float = 14.4) -> BornCharges:
    return BornCharges(np.asarray(charges), np.asarray(dielectric), np.array(factor))


BAD = [
    ({"dielectric": 0 * EPSILON}, "the eigenvalue 0"),
    ({"dielectric": -EPSILON}, r"the eigenvalue -6\.5"),
    ({"dielectric": np.diag([6.5, 6.5, -0.1])}, r"the eigenvalue -0\.1"),
    ({"dielectric": np.diag([6.5, 6.5, 0.99])}, r"the eigenvalue 0\.99: it must be positive definite \(above 1"),
    ({"dielectric": np.diag([6.5, 6.5, np.nan])}, "not finite"),
    ({"dielectric": EPSILON + np.eye(3, k=1)}, "not symmetric"),
    ({"factor": 0}, "the unit factor is 0"),
    ({"factor": -14.4}, "the unit factor is -14"),
    ({"factor": np.nan}, "the unit factor is nan"),
    ({"factor": np.inf}, "the unit factor is inf"),
    ({"charges": Z * np.nan}, "not finite"),
    ({"charges": np.abs(Z)}, "do not sum to zero: their sum is 200 % of the largest"),
    ({"charges": Z * [[[1.0]], [[0.4]]]}, "their sum is 60 %"),
    ({"charges": np.array([np.diag([6, 1, 1]), -np.diag([6, 1, 1])])}, "break the symmetry of the crystal by 56 %"),
]


def written(path: Path, found: BornCharges) -> Path:
    rows = [found.dielectric, *found.charges]
    lines = [" ".join(f"{x:.6f}" for x in np.ravel(row)) for row in rows]
    path.write_text("\n".join([str(float(found.factor)), *lines]) + "\n")
    return path


@pytest.mark.parametrize(("fields", "says"), BAD, ids=[says[-26:] for _, says in BAD])
@pytest.mark.parametrize("method", ["gonze", "wang"])
def test_refused(tmp_path: Path, fields: dict, says: str, method: str) -> None:
    with pytest.raises(InputError, match=says):
        make_nac(SiC, born(**fields), method)
    if np.isfinite(born(**fields).charges).all() and np.isfinite(born(**fields).dielectric).all():
        with pytest.raises(InputError, match=says):
            make_nac(SiC, read_born(written(tmp_path / "BORN", born(**fields)), SiC.crystal), method)
    block = {name: np.asarray(value).tolist() for name, value in (
        ("born_effective_charge", born(**fields).charges), ("dielectric_constant", born(**fields).dielectric),
        ("unit_conversion_factor", born(**fields).factor),
    )}  # fmt: skip
    with pytest.raises(InputError, match=says):
        make_nac(SiC, born_from_yaml({"nac": block}, 2, "phono3py.yaml"), method)


@pytest.mark.parametrize("name", ["charges", "dielectric tensor", "unit factor"])
@pytest.mark.parametrize("values", ["x", "14.4", True, 1j, [[1.0], [1.0, 2.0]]], ids=str)
def test_what_is_no_number_is_refused(name: str, values: object) -> None:
    field = name.removesuffix(" tensor").removeprefix("unit ")
    with pytest.raises(InputError, match=f"the Born charges, {name}: .* where there should be numbers"):
        make_nac(SiC, dataclasses.replace(born(), **{field: values}))


@pytest.mark.parametrize(
    ("charges", "says"),
    [
        (Z * [[[1.0]], [[0.85]]], "do not sum to zero: their sum is 15 % of the largest"),
        (Z * [[[1.1]], [[1.0]]], "do not sum to zero: their sum is 9"),  # one of them 10 % off
        (Z + 0.5 * np.eye(3, k=1), "break the symmetry of the crystal by 19 % of the largest"),
        (0 * Z, "the Born charges vanish: the non-analytic correction is zero"),
        (8 * Z, r"the Born charge of atom 1 \(Si\) is 21\.6 e, beyond ±20 e"),
        (0.01 * np.abs(Z), "vanish by symmetry"),
    ],
    ids=["sum rule", "one of two", "symmetry", "zero", "large", "cancel"],
)
def test_said(charges: np.ndarray, says: str) -> None:
    with pytest.warns(AccuracyWarning, match=says):
        make_nac(SiC, born(charges))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"charges": Z * [[[1.0]], [[0.95]]]},
        {"dielectric": EPSILON + 0.05 * np.eye(3, k=1)},
        {"factor": 14.3996},
        {"dielectric": np.eye(3)},
        {"charges": 7 * Z},
    ],
    ids=["exact", "5 %", "noise", "factor", "vacuum", "19 e"],
)
def test_accepted_without_a_word(tmp_path: Path, fields: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        found = make_nac(SiC, read_born(written(tmp_path / "BORN", born(**fields)), SiC.crystal))
    np.testing.assert_allclose(found.born.charges.sum(axis=0), 0, atol=1e-12)


def test_unit_factors_of_other_calculators(tmp_path: Path) -> None:
    path = written(tmp_path / "BORN", born(factor=2.0))
    with pytest.warns(AccuracyWarning, match=r"unit factor of 2 eV Å"):
        read_born(path, SiC.crystal)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        assert float(read_born(path, SiC.crystal, unit=7.19982576).factor) == pytest.approx(14.3996515)
        path.write_text(path.read_text().replace("2.0", "default value", 1))
        assert float(read_born(path, SiC.crystal, unit=7.19982576).factor) == pytest.approx(14.3996517)
