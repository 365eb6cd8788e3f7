"""What can be read off a jaxpr: its operations with those of its inner ones, and what products cost."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax


class Operation(NamedTuple):
    """An equation of a jaxpr, and how many times it runs; of a `while` one run of the body counts."""

    equation: Any
    times: int


def operations(jaxpr: Any, times: int = 1) -> Iterator[Operation]:
    """All equations, those of inner functions, loops and branches in the place of what holds them.

    Of branches those with the most matrix work count.
    """
    for equation in jaxpr.eqns:
        inner = inner_jaxprs(equation)
        if not inner:
            yield Operation(equation, times)
            continue
        if equation.primitive.name == "cond":
            inner = [max(inner, key=matrix_flops)]
        length = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for each in inner:
            yield from operations(each, times * length)


def inner_jaxprs(equation: Any) -> list[Any]:
    """The jaxprs of the functions that an equation calls, its loop, or its branches."""
    found = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)
    return [getattr(x, "jaxpr", x) for x in found if _is_jaxpr(x)]


def matrix_flops(jaxpr: Any) -> int:
    """The floating-point operations of matrix products and decompositions, a multiply-add being two."""
    return sum(times * _flops(equation) for equation, times in operations(jaxpr))


def _flops(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        shape, ((contracted, _), _) = equation.invars[0].aval.shape, equation.params["dimension_numbers"]
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
    if name in OF_SQUARES:
        shape = equation.invars[0].aval.shape
        return round(OF_SQUARES[name] * math.prod(shape) * min(shape[-2:]))
    return 0


OF_SQUARES = {
    "cholesky": 1 / 3,
    "triangular_solve": 1,
    "geqrf": 4 / 3,
    "householder_product": 4 / 3,
    "lu": 2 / 3,
    "eigh": 9,
    "svd": 22,
}
"""Decompositions of n × n matrices: their operations / n³, by Golub and Van Loan, Matrix computations."""


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")
