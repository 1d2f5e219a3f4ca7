"""Every aggregator against an independent solution in extended precision, on Jacobians that include degenerate ones.

The error is taken relative to the longest row (or to the update where its length does not follow the rows). Solutions
by enumeration, elimination and loops carry at most 1e-19 cond(unit rows) on x86, ours 1e-16 cond or better.
"""

import numpy as np
import pytest
from conftest import eps_of
from jacobians import Wide, families, length, min_norm, project, remove, scaled, solve, span, subsets, unit

from orthotheory import surgery
from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.surgery import contract

SHAPES = [(2, 5), (3, 7), (4, 2), (5, 12), (4, 1)]
LABELS = list(families(1, 3, 4))


def options(name, m):
    """What a name needs beside its defaults: Constant and Krum ask for a number of rows."""
    return {"constant": {"weight": tuple(np.arange(m) - 0.5)}, "krum": {"byzantine": min(1, m - 3)}}.get(name, {})


def make(name, m, **more):
    return surgery.make(name, **{**options(name, m), **more})


def relative(error, jacobian):
    size = length(jacobian).max(axis=(1, 2))
    return length(error)[..., 0] / np.where(size > 0, size, 1)


def conditioned(jacobian):
    """1e-11, or 64 eps cond of the unit rows where that is more (only for rows that agree to 1e-6): what rounding the
    rows in a QR or singular value decomposition moves a solution that is not a projection on the cone."""
    s = np.linalg.svd(unit(jacobian), compute_uv=False)
    smallest = np.min(np.where(s > 1e-12 * s[:, :1], s, np.inf), axis=1)
    return np.maximum(1e-11, 64 * eps_of(jacobian) * s[:, 0] / smallest)


# Independent solutions: (b, m, n) in extended precision -> (b, n)


def upgrad(j):
    return project(j, j).mean(axis=1)


def dual_proj(j):
    return project(j, j.mean(axis=1, keepdims=True))[:, 0]


def a_gem(j):
    return project(j[:, 1:].mean(axis=1, keepdims=True), j[:, :1])[:, 0]


def gem(j, margin=0.5, eps=1e-3):
    """Enumerate which multipliers sit at the margin; the one feasible point of least value."""
    g, r = j[:, 0], j[:, 1:]
    a, c = r @ np.swapaxes(r, 1, 2) + eps * np.eye(r.shape[1]), np.einsum("bmn,bn->bm", r, g)
    best, x = np.full(len(j), np.inf, Wide), g.copy()
    for subset in subsets(r.shape[1], r.shape[1]):
        free = np.isin(np.arange(r.shape[1]), subset)
        v = np.full(c.shape, margin, Wide)
        if free.any():
            rhs = -c[:, free] - a[:, free][:, :, ~free].sum(axis=2) * margin
            v[:, free] = solve(a[:, free][:, :, free], rhs[..., None])[..., 0]
        value = np.einsum("bi,bij,bj->b", v, a, v) / 2 + np.einsum("bi,bi->b", v, c)
        take = (v >= margin).all(axis=1) & (value < best)
        best, x = np.where(take, value, best), np.where(take[:, None], g + np.einsum("bm,bmn->bn", v, r), x)
    return np.where((c < 0).any(axis=1)[:, None], x, g)


def cagrad(j, c):
    """Enumerate the objectives F that share the least value tau; on each set x = g0 + d is known in closed form.

    d lies in the span of g_F, x is orthogonal to the differences of g_F, and |d| = c |g0|.
    """
    g0 = j.mean(axis=1)
    rho = c * length(g0)
    best, x = np.full(len(j), -np.inf, Wide), g0.copy()
    for subset in subsets(j.shape[1], min(j.shape[1:])):
        if not subset:
            continue
        base = j[:, subset[0]]
        basis = span([j[:, i] - base for i in subset[1:]])
        free, up = remove(g0[:, None], basis)[:, 0], unit(remove(base[:, None], basis)[:, 0])
        rest = rho**2 - np.sum((g0 - free) ** 2, axis=-1, keepdims=True)
        candidate = free + np.sqrt(np.maximum(rest, 0)) * up
        value = np.einsum("bmn,bn->bm", j, candidate).min(axis=1)
        take = (value > best) & (rest[:, 0] >= 0)
        best, x = np.where(take, value, best), np.where(take[:, None], candidate, x)
    return best, x


def pairwise(j, target=None, beta=0.0):
    """PCGrad in the given order, or GradVac where there are targets, which are changed in place."""
    updates = np.zeros_like(j)
    for item in range(len(j)):
        g = j[item]
        for i in range(len(g)):
            v = g[i].copy()
            for k in range(len(g)):
                size, other = length(v)[0], length(g[k])[0]
                if k == i or size == 0 or other == 0:
                    continue
                phi = np.clip(v @ g[k] / size / other, -1, 1)
                t = 0.0 if target is None else target[item, i, k]
                if phi < t:
                    v = v + size * (t * np.sqrt(1 - phi**2) / np.sqrt(1 - t**2) - phi) / other * g[k]
                if target is not None:
                    target[item, i, k] = (1 - beta) * t + beta * phi
            updates[item, i] = v
    return updates.sum(axis=1)


def equal_angle(j):
    """b = H^+ 1 by a least-squares solver of another family (SciPy's complete orthogonal factorization)."""
    from scipy.linalg import lstsq

    h = unit(j).astype(float)
    rows = np.any(h != 0, axis=-1).astype(float)
    b = np.array([lstsq(a, r, cond=1e-13, lapack_driver="gelsy")[0] for a, r in zip(h, rows, strict=True)])
    return np.where(length(b) > 1e-14, b, 0)  # opposite rows leave nothing


def config(j):
    direction = unit(equal_angle(j))
    return np.einsum("bmn,bn->b", j, direction)[:, None] * direction


def aligned(j, scale):
    """From the symmetric eigenvalue problem, as published."""
    updates = []
    for a in j.astype(float):
        value, vector = np.linalg.eigh(a @ a.T)
        keep = value > 1e-13 * max(value.max(), 1e-300)
        value, vector = value[keep], vector[:, keep]
        if not keep.any():
            updates.append(0 * a[0])
            continue
        s = {"min": value[0], "median": np.sort(value)[(len(value) - 1) // 2], "rmse": value.mean()}[scale] ** 0.5
        updates.append(a.T @ (s * (vector / np.sqrt(value)) @ vector.T @ np.full(len(a), 1 / len(a))))
    return np.array(updates)


REFERENCES = {
    "mean": lambda j: j.mean(axis=1),
    "sum": lambda j: j.sum(axis=1),
    "constant": lambda j: np.einsum("m,bmn->bn", np.arange(j.shape[1]) - 0.5, j),
    "upgrad": upgrad,
    "dual-proj": dual_proj,
    "mgda": min_norm,
    "a-gem": a_gem,
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("name", REFERENCES)
def test_the_update_is_the_enumerated_solution(name, label):
    for m, n in SHAPES:
        jacobian = families(12, m, n, seed=2)[label]
        scale = max(np.abs(jacobian).max(), 1e-300)
        error = make(name, m)(jacobian) / scale - REFERENCES[name](jacobian.astype(Wide) / scale)
        assert relative(error, jacobian / scale).max() <= 1e-12


@pytest.mark.parametrize("label", [x for x in LABELS if x not in ("tiny", "huge")])
def test_mgda_is_exact_relative_to_the_shortest_row(label):
    for m, n in SHAPES:
        jacobian = families(12, m, n, seed=3)[label]
        shortest = length(jacobian).min(axis=(1, 2))
        error = length(surgery.make("mgda")(jacobian) - min_norm(jacobian))[..., 0]
        reach = 4 * eps_of(jacobian) * length(jacobian).max(axis=(1, 2))  # rounding of the longest row moves the hull
        assert np.all(error <= 1e-12 * shortest + reach)


@pytest.mark.parametrize("label", [x for x in LABELS if x not in ("tiny", "huge", "row scales 1e-8 to 1e8")])
def test_gem_is_the_enumerated_solution(label):
    """Its ridge is absolute, so the condition is that of R R^T + eps I: at most 1e8 / 1e-3 on these, 1e-19 * 1e11."""
    for m, n in SHAPES:
        jacobian = families(12, m, n, seed=4)[label]
        reach = 1 + length(jacobian).max(axis=(1, 2)) ** 2  # what a multiplier of 1/2 and a ridge can move
        error = length(surgery.make("gem")(jacobian) - gem(jacobian.astype(Wide)))[..., 0]
        assert np.all(error <= 1e-11 * reach)


def test_gem_without_margin_and_ridge_is_the_projection_of_the_current_gradient():
    for label, jacobian in families(20, 4, 7).items():
        g = surgery.make("gem", margin=0.0, eps=0.0)(jacobian)
        expected = surgery.project(jacobian[:, 1:], jacobian[:, 0]).point
        assert relative(g / 1e150 - expected / 1e150, jacobian / 1e150).max() <= 1e-12, label


@pytest.mark.parametrize("c", [0.0, 0.4, 1.5])
@pytest.mark.parametrize("label", [x for x in LABELS if x not in ("tiny", "huge", "zero")])
def test_cagrad_is_the_best_worst_objective_of_the_ball(label, c):
    for m, n in SHAPES[:4]:
        jacobian = families(4, m, n, seed=5)[label]
        scale = length(jacobian).max(axis=(1, 2))[:, None]
        j = jacobian.astype(Wide) / scale[..., None]
        x = surgery.make("cagrad", c=c)(jacobian) / scale
        g0 = j.mean(axis=1)
        assert np.all(length(x - g0) <= c * length(g0) * (1 + 1e-12) + 1e-15)  # feasible
        value, best = cagrad(j, c)
        mine = np.einsum("bmn,bn->bm", j, x).min(axis=1)
        stationary = length(min_norm(j))[:, 0] <= 1e-9
        assert np.all(mine[~stationary] >= value[~stationary] - 1e-12)  # and optimal
        assert np.all(length(x - best)[~stationary, 0] <= conditioned(jacobian)[~stationary])


def test_cagrad_at_a_stationary_jacobian_is_the_nearest_maximizer():
    jacobian = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])  # any (0, t) with t >= 0 is a maximizer of value 0
    np.testing.assert_allclose(surgery.make("cagrad", c=1.0)(jacobian), [0.0, 1 / 3], atol=1e-15)
    close = jacobian + np.array([[0.0, 1e-7], [0.0, 1e-7], [0.0, 0.0]])  # the limit of those that are not stationary
    assert np.abs(surgery.make("cagrad", c=1e-5)(close) - [0.0, 1 / 3]).max() <= 1e-5


@pytest.mark.parametrize("label", LABELS)
def test_pcgrad_and_gradvac_are_the_loops_of_the_papers(label):
    for m, n in SHAPES:
        jacobian = families(6, m, n, seed=6)[label]
        if label == "nearly opposite rows":
            continue  # cosines of what little remains of a row: a matter of rounding in any arithmetic
        scale = max(np.abs(jacobian).max(), 1e-300)
        j = jacobian.astype(Wide) / scale
        error = surgery.make("pcgrad", order="given")(jacobian) / scale - pairwise(j)
        assert relative(error, jacobian / scale).max() <= 1e-12
        if label in ("generic", "conflicting", "a zero row", "tiny", "huge", "row scales 1e-4 to 1e4") and n > m:
            vaccine, target = surgery.make("gradvac", order="given"), np.zeros((6, m, m), Wide)
            state = vaccine.init(jacobian)
            for _ in range(3):
                update, state = vaccine.step(jacobian, state)
                error = update / scale - pairwise(j, target, 0.5)
                assert relative(error, jacobian / scale).max() <= 1e-11


def test_pcgrad_of_two_rows_is_twice_upgrad_and_its_random_order_is_a_law():
    jacobian = families(50, 2, 6)["conflicting"]
    np.testing.assert_allclose(surgery.make("pcgrad")(jacobian), 2 * surgery.make("upgrad")(jacobian), atol=1e-13)
    three = families(1, 3, 4)["conflicting"]
    seen = {tuple(np.round(surgery.make("pcgrad", seed=s)(three)[0], 9)) for s in range(40)}
    assert 1 < len(seen) <= 8  # each row meets the two others in one of two orders
    assert np.array_equal(surgery.make("pcgrad", seed=5)(three), surgery.make("pcgrad", seed=5)(three))


@pytest.mark.parametrize("label", [x for x in LABELS if x not in ("tiny", "huge")])
def test_equal_angle_rules_solve_their_linear_systems(label):
    for m, n in SHAPES:
        jacobian = families(12, m, n, seed=8)[label]
        tolerance, b = conditioned(jacobian), equal_angle(jacobian)
        error = length(surgery.make("config")(jacobian) - config(jacobian))[:, 0]
        assert np.all(error <= tolerance * length(jacobian).sum(axis=(1, 2)))
        x, safe, w = (
            f(jacobian) for f in (surgery.make("imtl-g"), surgery.make("imtl-g-safe"), surgery.make("imtl-g").weights)
        )
        assert np.all((np.abs(w.sum(axis=1) - 1) <= 64 * eps_of(w) * np.abs(w).sum(axis=1)) | ~w.any(axis=1))
        along = length(x) > 0
        assert np.all(
            length(unit(safe) - unit(b) * along)[:, 0] <= tolerance * np.maximum(1, 1 / length(b)[:, 0].clip(1e-3))
        )
        assert np.all((np.abs(length(x) - length(safe)) <= 1e-14 * length(x))[:, 0])


def test_imtl_g_is_the_published_formula_at_full_row_rank():
    for label in ("generic", "conflicting", "row scales 1e-4 to 1e4"):
        j = families(30, 4, 9)[label]
        v = solve(j.astype(Wide) @ np.swapaxes(j, 1, 2).astype(Wide), length(j.astype(Wide)))[..., 0]
        expected = np.einsum("bm,bmn->bn", v / v.sum(axis=1, keepdims=True), j.astype(Wide))
        np.testing.assert_allclose(surgery.make("imtl-g")(j), expected.astype(float), rtol=1e-9, atol=1e-13)


def test_imtl_g_can_ascend_every_objective_and_its_safe_form_cannot():
    rng = np.random.default_rng(0)
    j = rng.standard_normal((400, 3, 6))
    j[:, 1] = j[:, 0] + 0.1 * j[:, 1]
    j *= 10.0 ** rng.uniform(-1.5, 1.5, (400, 3, 1))
    progress = np.einsum("bmn,bn->bm", j, surgery.make("imtl-g")(j))
    assert 0.02 < np.mean(progress.max(axis=1) < 0) < 0.5
    assert np.einsum("bmn,bn->bm", j, surgery.make("imtl-g-safe")(j)).min() > 0


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("label", [x for x in LABELS if x not in ("tiny", "huge")])
def test_bargaining_is_within_1e_10_of_the_only_solution(label, alpha):
    """A bound that needs no other solver: phi*(x) = |x|^2 / 2 - sum U(g_i.x) has a Hessian of at least I, so that x is
    within |grad phi*(x)| of the minimizer. The gradient is evaluated in extended precision; next to stationarity, for
    nearly opposite rows, a float64 x is too coarse for it and one Newton step in extended precision is the distance."""
    if label == "row scales 1e-8 to 1e8" and alpha != 1:
        return  # cosines g_i.x / |g_i| |x| fall below eps there: the solution cannot be stored in float64
    solved = 0
    for m, n in SHAPES:
        jacobian = families(12, m, n, seed=9)[label]
        rule = surgery.make("fairgrad", alpha=alpha)
        x, j = rule(jacobian).astype(Wide), jacobian.astype(Wide)
        delta = length(min_norm(unit(j)))[
            :, 0
        ]  # the distance from stationarity: eps-changes of the rows move x by eps / delta
        stationary = delta <= 1e-10
        assert np.array_equal(np.any(x != 0, axis=1), ~stationary)  # zero exactly where no solution exists
        tolerance = np.maximum(1e-11, 8 * eps_of(jacobian) / delta[~stationary])[:, None]
        x, j = x[~stationary], j[~stationary]
        s = np.einsum("bmn,bn->bm", j, x)
        assert np.all(s > 0)
        grad = x - np.einsum("bm,bmn->bn", s**-alpha, j)
        hessian = np.eye(n) + alpha * np.einsum("bm,bmi,bmj->bij", s ** (-alpha - 1), j, j)
        distance = np.minimum(length(grad), length(solve(hessian, grad[..., None])[..., 0]))
        assert np.all(distance <= tolerance * length(x))
        solved += len(x)
    assert solved or label in ("zero", "a zero row", "opposite rows")


def test_nash_is_fairgrad_at_one_and_its_length_is_the_root_of_m():
    j = families(30, 4, 7)["row scales 1e-8 to 1e8"]
    x = surgery.make("nash-mtl")(j)
    np.testing.assert_allclose(x, surgery.make("fairgrad", alpha=1.0)(j), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(length(x), 2.0, rtol=1e-12)
    np.testing.assert_allclose(length(surgery.make("nash-mtl", max_norm=1.0)(j)), 1.0, rtol=1e-12)


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
def test_aligned_mtl_is_the_published_balance_and_the_polar_factor(scale):
    from scipy.linalg import polar

    for label in ("generic", "conflicting", "rank-deficient", "opposite rows", "a zero row", "small integers", "zero"):
        for m, n in SHAPES:
            j = families(12, m, n, seed=10)[label]
            error = surgery.make("aligned-mtl", scale=scale)(j) - aligned(j, scale)
            # the eigenvalues of G carry eps s_1^2, so that the published form loses eps (s_1 / s_r)^2
            s = np.linalg.svd(j, compute_uv=False)
            ratio = s[:, 0] / np.where(s > 1e-12 * s[:, :1], s, np.inf).min(axis=1, initial=1e300, where=s > 0)
            assert np.all(length(error)[:, 0] <= 1e-14 * np.maximum(ratio, 1) ** 2 * np.maximum(s[:, 0], 1))
    j = families(1, 3, 7)["generic"][0]
    expected = np.linalg.svd(j, compute_uv=False).min() * polar(j)[0].T @ np.full(3, 1 / 3)
    np.testing.assert_allclose(surgery.make("aligned-mtl")(j), expected, atol=1e-13)


def simplex(v):
    """Projection on the simplex by bisection of the threshold."""
    low, high = v.min() - 1, v.max()
    for _ in range(200):
        mid = (low + high) / 2
        low, high = (mid, high) if np.maximum(v - mid, 0).sum() > 1 else (low, mid)
    return np.maximum(v - (low + high) / 2, 0)


def softmax(v):
    return np.exp(v - v.max()) / np.exp(v - v.max()).sum()


def sdmgrad(state, j, k):
    w = np.full(len(j), 1 / len(j)) if state is None else state
    a = j @ j.T
    a = a / np.sqrt(np.diag(a)).mean() ** 2
    pull, velocity = 0.3 / len(j), 0.0
    for _ in range(20):
        velocity = 0.5 * velocity + a @ (w + pull)
        w = simplex(w - 10 * velocity)
    return j.T @ (w + pull) / 1.3, w


def modo(state, j, k):
    w = np.full(len(j), 1 / len(j)) if state is None else state
    w = simplex(w - 0.1 * (j @ j.T + 0.1 * np.eye(len(j))) @ w)
    return j.T @ w, w


def moco(state, j, k):
    y, w = (np.zeros_like(j), np.full(len(j), 1 / len(j))) if state is None else state
    y = y - 0.5 / np.sqrt(k) * (y - j)
    w = softmax(w - 0.1 / np.sqrt(k) * (y @ y.T) @ w)
    return y.T @ w, (y, w)


def cr_mogm(state, j, k):
    w = np.full(len(j), 1 / len(j)) if state is None else state
    w = 0.9 * w + 0.1 * surgery.make("mgda").weights(j)
    return j.T @ w, w


def excess(state, j, k):
    total, w, start = (np.zeros_like(j), np.ones(len(j)), None) if state is None else state
    total = total + j**2
    e = (j**2 / np.sqrt(total + 1e-7)).sum(axis=1)
    if start is None:
        return j.T @ w, (total, w, e)
    w = w * np.exp(e / (start + 1e-7))
    w = len(j) * w / w.sum()
    return j.T @ w, (total, w, start)


def db_mtl(state, j, k):
    y = np.zeros_like(j) if state is None else state
    y = j + 0.9 / np.sqrt(k) * (y - j)
    return (length(y).max() / length(y) * y).sum(axis=0), y


LOOPS = {"sdmgrad": sdmgrad, "modo": modo, "moco": moco, "cr-mogm": cr_mogm, "excess-mtl": excess, "db-mtl": db_mtl}


@pytest.mark.parametrize("name", LOOPS)
def test_ten_steps_of_a_stateful_rule_are_those_of_the_straight_line_loop(name):
    sequence = [families(4, 3, 6, seed=s)["conflicting"] for s in range(10)]
    rule = surgery.make(name)
    state, states = rule.init(sequence[0]), [None] * 4
    for k, jacobian in enumerate(sequence, start=1):
        update, state = rule.step(jacobian, state)
        for item in range(4):
            expected, states[item] = LOOPS[name](states[item], jacobian[item], k)
            np.testing.assert_allclose(update[item], expected, rtol=1e-10, atol=1e-11)


def test_two_samples_enter_the_weights_and_one_the_update():
    a, b = families(2, 3, 6, seed=1)["generic"], families(2, 3, 6, seed=2)["generic"]
    rule = surgery.make("modo", rho=0.0)
    update, w = rule.step(a, rule.init(a), b)
    for item in range(2):
        expected = simplex(np.full(3, 1 / 3) - 0.1 * a[item] @ b[item].T @ np.full(3, 1 / 3))
        np.testing.assert_allclose(w[item], expected, atol=1e-14)
        np.testing.assert_allclose(update[item], expected @ a[item], atol=1e-13)
    with pytest.raises(ValueError, match="one shape"):
        rule.step(a, rule.init(a), b[:, :2])


def test_sdmgrad_tends_to_the_least_norm_with_the_pull():
    j = families(1, 3, 6)["conflicting"][0]
    rule = surgery.make("sdmgrad", lr=0.6, iterations=1000, momentum=0.0)
    x = rule(j)
    from scipy.optimize import minimize

    cost = lambda w: np.sum((j.T @ (w + 0.1)) ** 2)  # noqa: E731
    best = minimize(
        cost, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}
    )
    assert np.sum((1.3 * x) ** 2) <= best.fun * (1 + 1e-9)


def test_krum_trimmed_mean_and_graddrop_are_their_definitions():
    from scipy.stats import trim_mean

    for label in ("generic", "a zero row", "row scales 1e-4 to 1e4", "nearly equal rows"):
        jacobian = families(10, 6, 5, seed=11)[label]
        for power, byzantine, selected in ((2.0, 1, 1), (1.0, 2, 3)):
            x = surgery.make("krum", power=power, byzantine=byzantine, selected=selected)(jacobian)
            for item, j in enumerate(jacobian):
                distance = np.array([[length(a - b)[0] for b in j] for a in j])
                score = [np.sort(np.delete(d, i))[: 4 - byzantine] for i, d in enumerate(distance)]
                order = np.argsort([np.sum(s**power) for s in score], kind="stable")[:selected]
                np.testing.assert_allclose(x[item], j[order].mean(axis=0), atol=1e-12 * np.abs(j).max())
        np.testing.assert_allclose(
            surgery.make("trimmed-mean")(jacobian), trim_mean(jacobian, 1 / 6, axis=1), atol=1e-8
        )
    jacobian = families(10, 6, 5, seed=11)["generic"]
    draws = np.array([surgery.make("graddrop", seed=s)(jacobian) for s in range(300)])
    positive, negative = np.maximum(jacobian, 0).sum(axis=1), np.minimum(jacobian, 0).sum(axis=1)
    purity = positive / (positive - negative)
    kept = np.isclose(draws, positive, rtol=1e-9)
    assert np.all(kept | np.isclose(draws, negative, rtol=1e-9))
    assert np.all(np.abs(kept.mean(axis=0) - purity) <= 5 * np.sqrt(0.25 / 300))
    np.testing.assert_allclose(surgery.make("graddrop", leak=[1.0] * 6)(jacobian), jacobian.sum(axis=1), atol=1e-12)


def test_flag_lowers_its_objective_and_resists_outliers():
    jacobian = families(20, 5, 8, seed=12)["conflicting"]
    h = unit(jacobian)

    def objective(x):  # rank 1: the subspace is the direction of the update
        return np.sqrt(np.maximum(1 - np.einsum("bmn,bn->bm", h, unit(x)) ** 2, 0)).sum(axis=1)

    values = [objective(surgery.make("flag", iterations=k)(jacobian)) for k in (0, 1, 2, 5, 20)]
    assert np.all(np.diff(values, axis=0) <= 1e-6)  # descent of the objective smoothed by 1e-7
    rng = np.random.default_rng(0)
    axis = np.eye(8)[0]
    spoiled = np.concatenate([axis + 0.01 * rng.standard_normal((7, 8)), 10 * rng.standard_normal((3, 8))])
    assert abs(unit(surgery.make("flag", iterations=50)(spoiled))[0]) > 0.999
    assert abs(unit(surgery.make("mean")(spoiled))[0]) < 0.9
    full = surgery.make("flag", rank=5)(jacobian)
    np.testing.assert_allclose(full, h.sum(axis=1) / 5, atol=1e-12)


# What every aggregator must do


@pytest.mark.parametrize("name", surgery.names())
def test_kind_dtype_device_and_batch_follow_the_jacobian(name, xp):
    jacobian = families(6, 4, 7)["conflicting"].reshape(2, 3, 4, 7)
    for dtype in ("float64", "float32"):
        host = jacobian.astype(dtype)
        update = make(name, 4)(xp.asarray(host))
        assert dtype_name(update) == dtype
        assert device_of(update) == xp.device
        assert update.shape == (2, 3, 7)
        # the same draws and the same float64 arithmetic, in another order of sums
        np.testing.assert_allclose(
            to_host(update), make(name, 4)(host), rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-6
        )
    deterministic = not surgery.TABLE[name].aggregator.random
    if deterministic:
        one = make(name, 4)(xp.asarray(jacobian[1, 2]))
        np.testing.assert_allclose(to_host(one), make(name, 4)(jacobian)[1, 2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", surgery.names())
@pytest.mark.parametrize("label", LABELS)
def test_nan_never_comes_out_of_finite_input(name, label):
    for m, n in [(4, 3), (5, 9), (4, 1)]:
        jacobian = families(6, m, n, seed=13)[label]
        rule = make(name, m)
        state = rule.init(jacobian)
        for _ in range(3 if rule.stateful else 1):
            update, state = rule.step(jacobian, state)
            assert np.isfinite(update).all()


@pytest.mark.parametrize("name", surgery.names())
def test_the_ends_of_the_floating_range_give_no_nan(name):
    for jacobian in (
        np.array([[1e300, -1e300], [1e-300, 1e-300], [0.0, 1e300], [-1e300, 5e-324]]),
        np.full((4, 2), 5e-324),
        np.array([[1e-300, 0.0], [-1e-300, 1e-308], [1.0, 1.0], [0.0, 0.0]]),
    ):
        update = make(name, 4)(jacobian)
        assert not np.isnan(update).any()


@pytest.mark.parametrize("name", surgery.names())
def test_bad_jacobians_are_refused_in_words(name):
    rule = make(name, 4)
    for bad in (np.nan, np.inf, -np.inf):
        jacobian = np.ones((3, 4, 5))
        jacobian[2, 1, 4] = bad
        with pytest.raises(ValueError, match=r"row 1 of Jacobian \(2,\)"):
            rule(jacobian)
    with pytest.raises(ValueError, match="shape"):
        rule(np.ones(4))
    with pytest.raises(ValueError, match="at least one entry"):
        rule(np.ones((0, 4)))
    with pytest.raises(TypeError, match="float32, float64"):
        rule(np.ones((4, 5), dtype=complex))
    assert rule(np.ones((0, 4, 5))).shape == (0, 5)


@pytest.mark.parametrize("name", surgery.names())
def test_the_degree_of_homogeneity_is_the_declared_one(name):
    jacobian = families(8, 4, 7, seed=14)["conflicting"]
    rule = make(name, 4)
    for factor in (3.0, 1e-100, 1e120):
        expected = factor**rule.homogeneity * rule(jacobian)
        if name in ("gem", "modo", "moco", "excess-mtl", "cr-mogm"):
            continue  # their parameters are absolute or their weights remember; see the properties
        np.testing.assert_allclose(rule(factor * jacobian), expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name", [n for n in surgery.names() if issubclass(surgery.TABLE[n].aggregator, contract.Weighted)]
)
def test_the_update_is_the_weights_times_the_jacobian(name):
    for label, jacobian in families(8, 4, 7, seed=15).items():
        rule = make(name, 4)
        w = rule.weights(jacobian)
        error = relative(np.einsum("bm,bmn->bn", w, jacobian) / 1e150 - rule(jacobian) / 1e150, jacobian / 1e150)
        # weights may cancel: their rounding counts relative to sum |w_i| |g_i|
        reach = np.einsum("bm,bm->b", np.abs(w), length(jacobian / 1e150)[..., 0]) / length(jacobian / 1e150).max(
            axis=(1, 2)
        ).clip(1e-300)
        assert np.all(error <= 64 * eps_of(jacobian) * (1 + reach)), label


def test_a_random_rule_draws_anew_in_every_step_and_repeats_with_its_seed():
    jacobian = families(3, 4, 7)["conflicting"]
    for name in ("random", "pcgrad", "gradvac", "graddrop"):
        rule = surgery.make(name, seed=3)
        first, state = rule.step(jacobian, rule.init(jacobian))
        second, _ = rule.step(jacobian, state)
        assert not np.array_equal(first, second)
        assert np.array_equal(first, rule(jacobian))


def test_names_options_and_cards_are_looked_after():
    with pytest.raises(UnknownName, match="upgrad"):
        surgery.make("upgard")
    with pytest.raises(UnknownName, match="preference"):
        surgery.make("upgrad", preferences=(1.0,))
    for name in surgery.names():
        card = surgery.TABLE[name].aggregator.card
        assert card.title
        assert card.status in ("exact", "secondary", "reconstructed")


IMPOSSIBLE = [
    ("cagrad", {"c": -1.0}),
    ("cagrad", {"rescale": "cubic"}),
    ("fairgrad", {"alpha": 0.0}),
    ("gem", {"margin": -1.0}),
    ("krum", {"byzantine": -1}),
    ("trimmed-mean", {"trim": 0.5}),
    ("flag", {"rank": 0}),
    ("flag", {"pairs": -1.0}),
    ("config", {"length": "quadratic"}),
    ("modo", {"gamma": 0.0}),
    ("aligned-mtl", {"scale": "max"}),
    ("moco", {"update_rule": "argmax"}),
    ("nash-mtl", {"max_norm": 0.0}),
]


@pytest.mark.parametrize(("name", "bad"), IMPOSSIBLE)
def test_impossible_options_are_refused(name, bad):
    with pytest.raises(ValueError, match=next(iter(bad)).split("_")[0]):
        surgery.make(name, **bad)


def test_a_preference_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="one weight a row"):
        surgery.make("upgrad", preference=(1.0, 2.0))(np.ones((3, 4)))


@pytest.mark.slow
def test_ten_thousand_jacobians_for_each_exact_solver(capsys):
    count, worst = 0, dict.fromkeys(REFERENCES, 0.0)
    for m, n in SHAPES:
        for label, jacobian in families(185, m, n, seed=16).items():
            if label in ("tiny", "huge"):
                continue
            for name, reference in REFERENCES.items():
                error = relative(make(name, m)(jacobian) - reference(jacobian.astype(Wide)), jacobian).max()
                worst[name] = max(worst[name], float(error))
            count += len(jacobian)
    with capsys.disabled():
        print(f"\n{count} Jacobians for each: " + ", ".join(f"{name} {error:.0e}" for name, error in worst.items()))
    assert count >= 10_000
    assert max(worst.values()) <= 1e-10


def test_scaled_keeps_directions():
    assert np.array_equal(scaled(np.zeros((1, 2, 2))), np.zeros((1, 2, 2)))


# The batched and the compiled UPGrad


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
@pytest.mark.parametrize("route", ["auto", "rows"])
@pytest.mark.parametrize("label", LABELS)
def test_batched_and_compiled_upgrad_are_the_enumerated_one(label, route, kernel):
    if kernel == "numba":
        pytest.importorskip("numba")
    for m, n in [*SHAPES, (1, 3)]:
        jacobian = families(300 if (m, n) == (3, 7) else 12, m, n, seed=17)[label]
        scale = max(np.abs(jacobian).max(), 1e-300)
        rule = surgery.make("upgrad", kernel=kernel, route=route)
        error = rule(jacobian) / scale - upgrad(jacobian.astype(Wide) / scale)
        assert relative(error, jacobian / scale).max() <= 1e-12


def test_the_compiled_upgrad_leaves_a_bad_neighbor_to_the_reference_and_names_it():
    pytest.importorskip("numba")
    jacobian = families(400, 5, 9)["generic"]
    jacobian[7] = families(1, 5, 9)["nearly opposite rows"][0]
    jacobian[9] *= 1e-220
    expected = surgery.make("upgrad", kernel="numpy")(jacobian)
    np.testing.assert_allclose(surgery.make("upgrad", kernel="numba")(jacobian), expected, rtol=1e-12, atol=1e-15)
    jacobian[11, 3, 2] = np.nan
    with pytest.raises(ValueError, match=r"row 3 of Jacobian \(11,\)"):
        surgery.make("upgrad", kernel="numba")(jacobian)


def test_a_missing_kernel_is_refused_and_never_needed(monkeypatch):
    from orthotheory import kernels

    monkeypatch.setattr(kernels, "compiled", lambda: False)
    jacobian = families(300, 3, 5)["generic"]
    assert surgery.make("upgrad")(jacobian).shape == (300, 5)
    with pytest.raises(RuntimeError, match=r"orthotheory\[fast\]"):
        surgery.make("upgrad", kernel="numba")(jacobian)


@pytest.mark.parametrize(
    "name", ["upgrad", "dual-proj", "mgda", "imtl-g", "config", "nash-mtl", "aligned-mtl", "pcgrad"]
)
def test_a_gramian_is_enough_for_the_weights(name, xp):
    for label in ("generic", "conflicting", "row scales 1e-4 to 1e4"):
        jacobian = families(6, 4, 9, seed=18)[label]
        rule = surgery.make(name)
        w = to_host(rule.weights(surgery.factor(xp.asarray(jacobian @ np.swapaxes(jacobian, 1, 2)))))
        x = np.einsum("bm,bmn->bn", w, jacobian)
        smallest = np.linalg.eigvalsh(unit(jacobian) @ np.swapaxes(unit(jacobian), 1, 2)).min(axis=1)
        reach = length(jacobian).max(axis=(1, 2)) ** rule.homogeneity
        # the relative error of the scaled Gramian over its least eigenvalue; Aligned-MTL sees the row scales as well
        loss = 1e4 if name == "aligned-mtl" and "scales" in label else 1.0
        assert np.all(length(x - rule(jacobian))[:, 0] <= 256 * eps_of(x) / smallest * loss * reach)


def test_zero_rows_of_a_gramian_stay_zero_and_what_is_none_is_refused():
    rows = families(3, 4, 6)["a zero row"]
    assert not surgery.factor(rows @ np.swapaxes(rows, 1, 2))[:, -1].any()
    with pytest.raises(ValueError, match=r"shape \(..., m, m\)"):
        surgery.factor(np.ones((2, 3)))
    with pytest.raises(ValueError, match="not negative"):
        surgery.factor(-np.eye(3))
