"""Second derivatives along one direction, in Taylor mode.

    ∂²/∂ε² f(x + ε u) at ε = 0

by two nested `jax.jvp` carries four numbers for every intermediate result: its value, its derivative along u, the same
derivative once more, and the second derivative. The compiler merges the two that are equal within one block of code, but
not where they pass through a loop. Here three are carried from the start, (y, y', y''), by interpreting the jaxpr of f:
products cost 6 multiplications instead of 9, and what is differentiated further, by more directions or in reverse mode,
is smaller in proportion (6 instead of 8 numbers for a third derivative).

For one operation y = g(x) with inputs (x, x', x''), y' = ∂g[x'] and, by the chain rule,

    y'' = ∂²g[x', x'] + ∂g[x''] = d/dε (∂g(x + ε x')[x' + ε x'']),

a jvp of the operation's jvp. That holds for every operation JAX can differentiate forwards. Loops, nested jit and
jax.checkpoint are entered with their structure kept.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jax.extend.core import Jaxpr, JaxprEqn

    from .pytree import Array


#: (y, y', y''), or (y,) for what does not depend on ε
Curve = tuple[Any, ...]


def second_derivative(f: Callable[[Array], Any], x: Array, direction: Array) -> Any:
    """∂²/∂ε² f(x + ε·direction) at ε = 0; what f returns, an array or a pytree of real arrays.

    f may contain anything that `jax.jvp` differentiates twice. The result can be differentiated further, in both modes.
    """
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(x)
    curves = _along(jaxpr.jaxpr, jaxpr.consts, [(x, direction, jnp.zeros_like(x))])
    second = [c[2] if len(c) == 3 else jnp.zeros_like(c[0]) for c in curves]
    return jax.tree.unflatten(jax.tree.structure(shapes), second)


def _along(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Curve]) -> list[Curve]:
    """The outputs of a jaxpr along the curve of its inputs."""
    known: dict[Any, Curve] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {v: (c,) for v, c in zip(jaxpr.constvars, consts, strict=True)}

    def read(v: Any) -> Curve:
        return (v.val,) if isinstance(v, Literal) else known[v]

    for eqn in jaxpr.eqns:
        arguments = [read(v) for v in eqn.invars]
        rule = RULES.get(eqn.primitive.name, _operation) if any(len(a) == 3 for a in arguments) else _constant
        known |= zip(eqn.outvars, rule(jaxpr, eqn, arguments), strict=True)
    return [read(v) for v in jaxpr.outvars]


def _alone(parent: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> tuple[Callable[..., list[Any]], dict[Any, Curve]]:
    """The operation as a function of its distinct variables, whatever it is, and their curves: a jaxpr of one equation."""
    variables = {v: a for v, a in zip(eqn.invars, arguments, strict=True) if not isinstance(v, Literal)}
    named = [v for v in eqn.outvars if str(v) != "_"]  # so JAX calls results that nothing uses
    alone = parent.replace(constvars=(), invars=list(variables), outvars=named, eqns=[eqn], effects=eqn.effects)
    run = jaxpr_as_fun(ClosedJaxpr(alone, ()))

    def g(*values: Any) -> list[Any]:
        found = dict(zip(named, run(*values), strict=True))
        return [found[v] if v in found else np.zeros((), int) for v in eqn.outvars]

    return g, variables


def _constant(parent: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    g, variables = _alone(parent, eqn, arguments)
    return [(y,) for y in g(*(a[0] for a in variables.values()))]


def _operation(parent: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    """Any operation, by its jvp."""
    g, variables = _alone(parent, eqn, arguments)
    moving = {v: a for v, a in variables.items() if len(a) == 3}

    def value(*moved: Any) -> list[Any]:
        values = {v: a[0] for v, a in variables.items()} | dict(zip(moving, moved, strict=True))
        return g(*values.values())

    def first(x: tuple[Any, ...], x1: tuple[Any, ...]) -> list[Any]:
        return [d for d in jax.jvp(value, x, x1)[1] if d.dtype != jax.dtypes.float0]

    x, x1, x2 = zip(*moving.values(), strict=True)
    y = value(*x)
    y1, y2 = (iter(d) for d in jax.jvp(first, (x, x1), (x1, x2)))
    return [(v, next(y1), next(y2)) if jnp.issubdtype(v.dtype, jnp.inexact) else (v,) for v in y]


def _linear(_: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    """An operation linear in all of its arguments together."""
    parts = zip(*(_filled(a) for a in arguments), strict=True)
    return [tuple(eqn.primitive.bind(*part, **eqn.params) for part in parts)]


def _nested(_: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    """jit: the body."""
    closed = eqn.params["jaxpr"]
    return _along(closed.jaxpr, closed.consts, arguments)


def _checkpoint(_: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    """jax.checkpoint of the body with its derivatives, policy and state as they were."""
    leaves, structure = jax.tree.flatten(arguments)
    body = eqn.params["jaxpr"]

    def curves(*leaves: Any) -> list[Curve]:
        return _along(body, (), jax.tree.unflatten(structure, leaves))

    closed, shapes = jax.make_jaxpr(curves, return_shape=True)(*leaves)
    jaxpr = closed.jaxpr.replace(constvars=(), invars=[*closed.jaxpr.constvars, *closed.jaxpr.invars])
    out = eqn.primitive.bind(*closed.consts, *leaves, **eqn.params | {"jaxpr": jaxpr})
    return jax.tree.unflatten(jax.tree.structure(shapes), out)


def _scan(_: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    """jax.lax.scan that carries and stacks curves."""
    body: ClosedJaxpr = eqn.params["jaxpr"]
    # constants, carries and slices are told apart by their ranks: the names of the parameters change with JAX's version
    carried = _of_same_rank(eqn.invars, body.jaxpr.invars)
    fixed = carried - _of_same_rank(eqn.outvars, body.jaxpr.outvars)
    consts, init, xs = arguments[:fixed], arguments[fixed:carried], arguments[carried:]

    def step(init: list[Curve], x: list[Curve]) -> tuple[list[Curve], list[Curve]]:
        out = _along(body.jaxpr, body.consts, [*consts, *init, *x])
        new = [_filled(c) if len(old) == 3 else c for c, old in zip(out, init, strict=False)]
        return new, out[len(init) :]

    # a carry that does not move before the loop may move in it: as long as that makes more of them move, look again
    while True:
        new, _ = jax.eval_shape(step, init, jax.tree.map(lambda x: x[0], xs))
        if all(len(a) == len(b) for a, b in zip(new, init, strict=True)):
            break
        init = [_filled(a) if len(b) == 3 else a for a, b in zip(init, new, strict=True)]
    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    last, ys = jax.lax.scan(step, init, xs, **options)
    return [*last, *ys]


def _cond(_: Jaxpr, eqn: JaxprEqn, arguments: list[Curve]) -> list[Curve]:
    """jax.lax.cond and switch: the branches along the curve; where one moves a result, all do."""
    index, *operands = arguments
    bodies = [partial(_along, branch.jaxpr, branch.consts) for branch in eqn.params["branches"]]
    found = [jax.eval_shape(body, operands) for body in bodies]
    moves = [any(len(curve) == 3 for curve in curves) for curves in zip(*found, strict=True)]

    def filled(body: Callable[[list[Curve]], list[Curve]], x: list[Curve]) -> list[Curve]:
        return [_filled(curve) if move else curve for curve, move in zip(body(x), moves, strict=True)]

    return jax.lax.switch(index[0], [partial(filled, body) for body in bodies], operands)


def _of_same_rank(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    """How many of a loop's inputs or outputs are whole inside its body; the others gain an axis outside."""
    return sum(a.aval.ndim == b.aval.ndim for a, b in zip(outer, inner, strict=True))


def _filled(curve: Curve) -> Curve:
    """With zero derivatives where there are none; integers have none."""
    if len(curve) == 3 or not jnp.issubdtype(curve[0].dtype, jnp.inexact):
        return curve
    zero = jnp.zeros_like(curve[0])
    return curve[0], zero, zero


RULES: dict[str, Callable[[Any, Any, list[Curve]], list[Curve]]] = {
    "scan": _scan,
    "cond": _cond,
    "jit": _nested,
    **dict.fromkeys(("remat2", "checkpoint"), _checkpoint),  # one primitive, named differently by versions of JAX
    **dict.fromkeys(("add", "sub", "add_any", "concatenate"), _linear),
    **dict.fromkeys(
        ("neg", "reshape", "transpose", "broadcast_in_dim", "reduce_sum", "squeeze", "slice", "copy", "rev", "cumsum"),
        _linear,
    ),
}


__all__ = [
    "second_derivative",
]
