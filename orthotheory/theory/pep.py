"""Performance estimation of fixed-radius descent by semidefinite programming, an optional cross-check (extra `pep`).

The unknowns are iterates and directions d_k in a Euclidean space. The norm is the one whose unit ball is the convex
hull of all +-d_j: that d_k is its LMO says <g_k, d_k> <= +-<g_k, d_j> for every j, and |g_k|_* = -<g_k, d_k>. The ball
lies in the Euclidean one, so that smoothness carries over: the instance is a legitimate one of T1, for *some* norm.
"""

from __future__ import annotations


def worst_smallest_gradient(steps: int, lr: float, *, smoothness: float = 1.0, gap: float = 1.0) -> float:
    """Return the largest min_k |grad f(X_k)|_* after `steps` of X + lr lmo(grad f), over functions and such norms.

    Cost: one semidefinite program with 2 steps + 2 vectors; seconds.

    Raises
    ------
    ImportError
        Without PEPit: `pip install 'orthotheory[pep]'`.
    RuntimeError
        Where the solver does not report an optimum.
    """
    try:
        from PEPit import PEP, Point
        from PEPit.functions import SmoothFunction
    except ImportError as error:
        raise ImportError(f"{error}; the cross-check needs: pip install 'orthotheory[pep]'") from error

    problem = PEP()
    f = problem.declare_function(SmoothFunction, L=smoothness)
    x = first = problem.set_initial_point()
    gradients, directions = [], [Point() for _ in range(steps)]
    for d in directions:
        gradients.append(f.gradient(x))
        x = x + lr * d
    problem.set_initial_condition(f(first) - f(x) <= gap)
    for i, g in enumerate(gradients):
        problem.add_constraint(directions[i] ** 2 <= 1)
        problem.set_performance_metric(-(g * directions[i]))
        for d in directions:
            for sign in (1, -1):
                problem.add_constraint(g * directions[i] <= sign * (g * d))
    value = problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)
    if value is None:
        raise RuntimeError("the semidefinite program has no reported optimum")
    return float(value)
