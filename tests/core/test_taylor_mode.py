"""Second derivatives in Taylor mode against two nested jvps, through every structure of JAX that potentials use."""

from __future__ import annotations

from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from wigner_jax._core.chunking import map_chunks
from wigner_jax._core.taylor_mode import second_derivative

rng = np.random.default_rng(0)
X, U, V = (jnp.asarray(rng.standard_normal(5)) for _ in range(3))

TABLE = rng.standard_normal((5, 5))


def nested(f, x, u):
    def along(y):
        return jax.jvp(f, (y,), (u,))[1]

    return jax.jvp(along, (x,), (u,))[1]


def scanned(x):
    """A carry that moves from the start, one that begins to in the second step of the analysis, and an integer."""

    def body(carry, row):
        a, b, n = carry
        a = jnp.sin(a) * b + x[n]
        return (a, b * row.sum() + x, n + 1), (a * a, n)

    (a, b, _), (squares, _) = jax.lax.scan(body, (jnp.ones(5), jnp.ones(5), 0), jnp.ones((3, 5)) * x[0], reverse=True)
    return a + b.sum() + squares.sum(axis=0)


@jax.custom_jvp
def cubed(x):
    return x**3


cubed.defjvp(lambda primals, tangents: (cubed(primals[0]), 3 * primals[0] ** 2 * tangents[0]))

FUNCTIONS = {
    "a product of one with itself": lambda x: x * x,
    "shifted by a literal": lambda x: 2.0 - (1.0 + x) ** 2,
    "linear": lambda x: jnp.concatenate([-x, jnp.ones(2)]).reshape(7, 1).T.sum(axis=0) - 3.0,
    "quotient": lambda x: jnp.exp(x) / (x @ x + 1),
    "branches": lambda x: jnp.where(x > 0, x**3, jax.nn.silu(x)),
    "cond": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "a branch that does not move": lambda x: jax.lax.cond(x[0] > 9, jnp.sin, jnp.zeros_like, x) + x**3,
    "chunks without anything": lambda x: map_chunks(
        lambda y: jnp.sin(y) * x[None], jnp.outer(x, x), 2, jnp.array([True, False, False, False, True])
    ).sum(axis=0),
    "while": lambda x: jax.lax.fori_loop(0, jnp.argmax(x) + 2, lambda i, y: y * x + i, x),
    "scan": scanned,
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) * jnp.cumsum(x) ** 2),
    "checkpoint with a table": jax.checkpoint(lambda x: jnp.sin(x)[None] * TABLE @ x),
    "scan of checkpoints": lambda x: jax.lax.map(jax.checkpoint(lambda y: jnp.tanh(y) * x), jnp.outer(x, x)),
    "gradient of them": lambda x: jax.grad(
        lambda y: jax.lax.map(jax.checkpoint(lambda z: jnp.tanh(z) * y), jnp.outer(y, y)).sum()
    )(x),
    "gradient of a scan": jax.grad(lambda x: scanned(x).sum()),
    "custom_jvp": lambda x: cubed(x) * x,
    "jit": jax.jit(lambda x: jnp.linalg.inv(jnp.outer(x, x) + jnp.eye(5)) @ x),
    "scatter": lambda x: jnp.zeros(3).at[jnp.array([0, 2, 0, 1, 1])].add(x**2),
    "rounded": lambda x: jnp.floor(x) * x**2,
    "several results": lambda x: jnp.split(jnp.sort(x) ** 2, [2]),
    "indices": lambda x: jax.lax.top_k(x**2, 2)[0],
    "constant": lambda _: jnp.arange(3.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_two_jvps(name):
    """And so do its derivatives along another direction and in reverse mode."""
    f = FUNCTIONS[name]

    @partial(jax.jit, static_argnums=0)
    def derivatives(d2, x):
        def total(x):
            return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(d2(f, x, U)))

        second, third = jax.jvp(lambda y: d2(f, y, U), (x,), (V,))
        reverse = jax.grad(total)(x) if name != "while" else None  # which has no reverse mode
        return second, third, reverse

    one, other = derivatives(second_derivative, X), derivatives(nested, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), one, other)


def test_runs_outside_of_jit():
    f = FUNCTIONS["gradient of them"]
    np.testing.assert_allclose(second_derivative(f, X, U), nested(f, X, U), rtol=1e-12)


def test_loops_carry_three_numbers():
    """Nothing that a loop carries or stacks appears twice: two nested jvps carry y' two times."""

    def f(x):
        return jax.lax.scan(lambda y, _: (jnp.sin(y), None), x, None, length=4)[0]

    def carried(d2):
        jaxpr = jax.make_jaxpr(lambda x: d2(f, x, U))(X)
        (loop,) = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
        return len(loop.outvars)

    assert carried(second_derivative) == 3
    assert carried(nested) == 4


def test_checkpoint_returns_three_numbers():
    f = jax.checkpoint(lambda x: jnp.sin(x) * x)
    jaxpr = jax.make_jaxpr(lambda x: second_derivative(f, x, U))(X)
    (kept,) = [e for e in jaxpr.eqns if isinstance(e.params.get("jaxpr"), jax.extend.core.Jaxpr)]
    assert len(kept.outvars) == 3


def test_against_differences():
    h = 1e-3
    f = FUNCTIONS["gradient of them"]
    expected = (f(X + h * U) - 2 * f(X) + f(X - h * U)) / h**2
    np.testing.assert_allclose(second_derivative(f, X, U), expected, rtol=1e-4, atol=1e-4)
