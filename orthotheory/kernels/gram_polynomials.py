"""Polynomials in a Gram matrix, on the short side, as they are recorded: sums of few products, kept as coefficients."""

from __future__ import annotations

import numpy as np

from .recording import Program, Symbol, Unrecordable


def scaled(x: Symbol, factor) -> Symbol:
    """Return a polynomial times a number."""
    if not isinstance(factor, int | float):
        raise Unrecordable("a polynomial in a Gram matrix whose coefficients are not numbers")
    assert x.linear is not None
    terms, eye = x.linear
    return Symbol(x.program, x.index, ({i: c * factor for i, c in terms.items()}, eye * factor))


def total(x, y) -> Symbol:
    """Return the sum of two polynomials, or of one and a multiple of the identity."""
    if isinstance(y, Eye):
        return Symbol(x.program, x.index, (x.linear[0], x.linear[1] + y.factor))
    if not all(isinstance(s, Symbol) and s.kind == "short" for s in (x, y)):
        raise Unrecordable("a sum of a polynomial in a Gram matrix and something else")
    assert x.linear is not None
    assert y.linear is not None
    terms = dict(x.linear[0])
    for i, c in y.linear[0].items():
        terms[i] = terms.get(i, 0.0) + c
    return Symbol(x.program, next(iter(terms), x.index), (terms, x.linear[1] + y.linear[1]))


def product_plus(x: Symbol, y) -> Symbol | None:
    """Return beta Z + product with the addition inside the product, where x + y is that."""
    if not isinstance(y, Symbol):
        return None
    for product, other in ((x, y), (y, x)):
        p, o = product.node, other.node
        polynomial = p.op == "product" and x.program.nodes[p.args[0]].kind == "short"  # nothing else wants it alone
        if polynomial and p.kind == "matrix" and len(p.args) == 2 and o.op == "multiply" and o.kind == "matrix":
            nodes = x.program.nodes
            number = [a for a in o.args if nodes[a].op == "number"]
            matrix = [a for a in o.args if nodes[a].kind == "matrix" and nodes[a].flipped == p.flipped]
            if len(number) == len(matrix) == 1:
                detail = (p.detail[0], nodes[number[0]].detail)
                args = (*p.args, matrix[0])
                return Symbol(x.program, x.program.add("product", args, "matrix", flipped=p.flipped, detail=detail))
    return None


def matmul(program: Program, x, y) -> Symbol:
    """Record x @ y as alpha A B + beta C: of matrices, constants and polynomials in a Gram matrix."""
    for constant, other in ((x, y), (y, x)):
        if isinstance(constant, np.ndarray):
            if constant.ndim != 2 or not isinstance(other, Symbol) or other.kind != "matrix":
                raise Unrecordable("a product of a constant and something that is no matrix")
            if np.array_equal(constant, np.eye(len(constant))):
                return other
    if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
        flipped = (x if isinstance(x, Symbol) else y).node.flipped
        size = (x if isinstance(x, np.ndarray) else y).shape
        if size[0] != size[1]:
            raise Unrecordable("a product with a constant that is not square")
        left = program.constant(x) if isinstance(x, np.ndarray) else x.index
        right = program.constant(y) if isinstance(y, np.ndarray) else y.index
        detail = (program.number(1.0).node.detail, None)
        return Symbol(program, program.add("product", (left, right), "matrix", flipped=flipped, detail=detail))
    one = program.number(1.0).node.detail
    if x.kind == "matrix" and y.kind == "matrix":
        same = y.node.op == "transpose" and y.node.args[0] == x.index
        same = same or (x.node.op == "transpose" and x.node.args[0] == y.index)
        if not same or x.node.flipped != program.tall:
            raise Unrecordable("a product of two matrices that is not the Gram matrix of the short side")
        index = program.add("product", (x.index, y.index), "short", detail=(one, None))
        return Symbol(program, index, ({index: 1.0}, 0.0))
    if x.kind == "short" and y.kind in ("short", "matrix"):
        assert x.linear is not None
        terms = [(i, c) for i, c in x.linear[0].items() if c]
        if len(terms) != 1:
            raise Unrecordable("a product with more than one power of a Gram matrix")
        (left, alpha), beta = terms[0], x.linear[1]
        right, kind, flipped = y.index, "matrix", y.node.flipped
        if y.kind == "short":
            powers, eye = y.linear or ({}, 1.0)
            if len(powers) != 1 or eye:
                raise Unrecordable("a product of two polynomials in a Gram matrix")
            ((right, c),) = powers.items()
            alpha, beta, kind, flipped = alpha * c, beta * c, "short", False
        elif flipped != program.tall:
            raise Unrecordable("a product of a matrix and the Gram matrix of the other side")
        numbers = (program.number(alpha).node.detail, program.number(beta).node.detail if beta else None)
        args = (left, right, right) if beta else (left, right)
        index = program.add("product", args, kind, flipped=flipped, detail=numbers)
        return Symbol(program, index, ({index: 1.0}, 0.0) if kind == "short" else None)
    raise Unrecordable(f"a product of a {x.kind} and a {y.kind}")


class Eye:
    """The identity on the short side, known by what is added to it."""

    __array_ufunc__ = None

    def __init__(self, factor: float = 1.0):
        self.factor = factor

    def __mul__(self, factor):
        if not isinstance(factor, int | float):
            raise Unrecordable("an identity with a factor that is no number")
        return Eye(self.factor * factor)

    __rmul__ = __mul__
