"""Data structures print as a few lines, whatever they hold."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wigner_jax._core.pretty_print import LINE, fields_printed, printed
from wigner_jax._solve import make_plan
from wigner_jax.crystal.defaults import default_supercells
from wigner_jax.crystal.prototypes import prototype
from wigner_jax.potentials.registry import load_potential
from wigner_jax.types import Crystal


def test_arrays_print_as_type_and_shape():
    crystal = Crystal(np.eye(3), np.zeros((2, 3)), np.ones(2), (11, 17))
    assert repr(crystal) == (
        "Crystal(lattice=float64[3,3], positions=float64[2,3], masses=float64[2], numbers=(11, 17))"
    )


def test_numbers_and_everything_else_are_shown():
    assert printed((np.float64(1.5), jnp.int32(3), "x", None)) == "(1.5, 3, 'x', None)"
    assert printed({"a": np.zeros(3, int), "b": [1, 2]}) == "{'a': int64[3], 'b': [1, 2]}"


def test_traced_values_print():
    seen = []
    jax.make_jaxpr(lambda x: seen.append(printed(x)))(jnp.zeros((2, 3)))
    assert seen == ["float64[2,3]"]


def test_potential_is_one_line_and_does_not_print_its_weights():
    text = repr(load_potential("mace-bundled"))
    assert text.startswith("Potential('mace-bundled', Li O ")
    assert "parameters" in text
    assert len(text) < 2 * LINE


def test_plan_is_short_and_names_its_fields():
    plan = make_plan(default_supercells(prototype("Si")), (3, 3, 3))
    text = repr(plan)
    assert len(text) < 5000
    for field in dataclasses.fields(plan):
        assert f"{field.name}=" in text
    assert max(map(len, text.splitlines())) < 2 * LINE


@pytest.mark.parametrize("length", [1, 80])
def test_long_fields_go_on_lines_of_their_own(length):
    @dataclasses.dataclass(repr=False)
    class Pair:
        first: str
        second: np.ndarray
        __repr__ = fields_printed

    text = repr(Pair("x" * length, np.zeros((7, 7))))
    broken = f"Pair(\n  first='{'x' * length}',\n  second=float64[7,7],\n)"
    assert text == (broken if length > 50 else f"Pair(first='{'x' * length}', second=float64[7,7])")
