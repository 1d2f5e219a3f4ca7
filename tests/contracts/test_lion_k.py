"""Lion-K recovers its special cases step by step, and the balls of dom K* hold its iterates."""

import numpy as np
import pytest
from conftest import hard_matrices

from orthotheory import convex, norms, problems, run
from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.convex import NormFunction, RowBlocks
from orthotheory.methods import HeavyBall, Lion, Muon, NormalizedGD, SignDescent, Signum, TrustRegion
from orthotheory.methods.lion_k import LionK
from orthotheory.names import UnknownName

STEPS = 12
# Steps of length 0.1 from weights of order 1: each adds a few eps, and a polar factor up to 1 / min singular value
# (below 1e3 for these Gaussian averages) times that. 12 * 0.1 * 1e3 * eps < 1e-12.
TOLERANCE = 1e-12


def sequence(shape=(5, 4), steps=STEPS, seed=0):
    """Weights and gradients that do not depend on them."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), [rng.standard_normal(shape) for _ in range(steps)]


def iterates(method, w, grads, xp=None):
    """The weights after each step, on the host."""
    if xp is not None:
        w, grads = xp.asarray(w), [xp.asarray(g) for g in grads]
    state, path = method.init(w), []
    for g in grads:
        w, state = method.step(w, g, state)
        path.append(to_host(w))
    return np.stack(path)


BETA, LR, DECAY = 0.9, 0.1, 0.3
exact_muon = {"lr": LR, "momentum": BETA, "weight_decay": DECAY, "plan": "exact", "shape_factor": "none"}

# label: (the method, K, the betas that recover it, its lr and weight decay, betas that must not)
SPECIAL = {
    "lion is the l1 norm": (Lion(LR, 0.9, 0.99, DECAY), "l1", (0.9, 0.99), LR, DECAY, (0.99, 0.9)),
    "signum is the l1 norm with equal betas": (Signum(LR, BETA, DECAY), "l1", (BETA, BETA), LR, DECAY, (BETA, 0.99)),
    "sign descent is the l1 norm without memory": (SignDescent(LR, DECAY), "l1", (0.0, 0.5), LR, DECAY, (0.5, 0.5)),
    "muon with nesterov is the nuclear norm with betas (b^2, b)": (
        Muon(nesterov=True, **exact_muon), "nuclear", (BETA**2, BETA), LR, DECAY, (BETA, BETA),
    ),
    "muon without nesterov is the nuclear norm with equal betas": (
        Muon(nesterov=False, **exact_muon), "nuclear", (BETA, BETA), LR, DECAY, (BETA**2, BETA),
    ),
    "the normalized gradient is the l2 norm with betas 0": (
        NormalizedGD(LR, DECAY), "l2", (0.0, 0.0), LR, DECAY, (0.1, 0.0),
    ),
    # its buffer is the average divided by 1 - momentum, so the step is longer and the decay per step is kept
    "heavy ball is half the square with the step divided by 1 - momentum": (
        HeavyBall(LR, BETA, DECAY), "half-square", (BETA, BETA), LR / (1 - BETA), DECAY * (1 - BETA), (BETA, 0.99),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("method", "k", "betas", "lr", "decay", "wrong"), SPECIAL.values(), ids=SPECIAL.keys())
def test_a_known_method_is_recovered_step_by_step(method, k, betas, lr, decay, wrong, xp):
    w, grads = sequence()
    expected = iterates(method, w, grads, xp)
    actual = iterates(LionK(k, lr, *betas, decay), w, grads, xp)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("method", "k", "betas", "lr", "decay", "wrong"), SPECIAL.values(), ids=SPECIAL.keys())
def test_wrong_betas_do_not_recover_it(method, k, betas, lr, decay, wrong):
    w, grads = sequence()
    expected = iterates(method, w, grads)
    for options in ((*wrong, decay), (*betas, 2 * decay)):
        assert np.abs(iterates(LionK(k, lr, *options), w, grads) - expected).max() > 1e-3, options


@pytest.mark.parametrize("name", ["l1", "nuclear", "l2", "row-sum", "spectral", "ky-fan"])
def test_without_memory_lion_k_of_a_norm_is_a_trust_region_in_the_dual_ball(name):
    k = convex.make(name)
    w, grads = sequence()
    trust = TrustRegion(k.ball, lr=LR, weight_decay=DECAY)
    actual = iterates(LionK(k, LR, 0.0, 0.0, DECAY), w, grads)
    np.testing.assert_array_equal(actual, iterates(trust, w, grads))


def test_the_step_mixes_with_beta1_and_the_memory_with_beta2():
    w, (g, h) = sequence(steps=2)
    method = LionK("half-square", lr=1.0, beta1=0.25, beta2=0.5, weight_decay=0.0)
    w1, state = method.step(w, g, method.init(w))
    np.testing.assert_allclose(w - w1, 0.75 * g, atol=TOLERANCE)
    np.testing.assert_allclose(state.momentum, 0.5 * g, atol=TOLERANCE)
    w2, state = method.step(w1, h, state)
    np.testing.assert_allclose(w1 - w2, 0.25 * 0.5 * g + 0.75 * h, atol=TOLERANCE)
    np.testing.assert_allclose(state.momentum, 0.25 * g + 0.5 * h, atol=TOLERANCE)
    assert state.steps == 2


def test_a_warm_start_takes_the_first_gradient_as_memory_and_only_then_differs(xp):
    w, grads = sequence()
    warm = LionK("half-square", lr=1.0, beta1=0.5, beta2=0.9, weight_decay=0.0, warm_start=True)
    w0, g = xp.asarray(w), xp.asarray(grads[0])
    w1, state = warm.step(w0, g, warm.init(w0))
    # both mixes of equal matrices are that matrix, to a rounding of each product
    np.testing.assert_allclose(to_host(w1), w - grads[0], atol=TOLERANCE)
    np.testing.assert_allclose(to_host(state.momentum), grads[0], atol=TOLERANCE)
    # from the second step on the memory is its own: C = (G_0 + G_1) / 2, and M = 0.9 G_0 + 0.1 G_1
    w2, state = warm.step(w1, xp.asarray(grads[1]), state)
    np.testing.assert_allclose(to_host(w2), w - grads[0] - (grads[0] + grads[1]) / 2, atol=TOLERANCE)
    np.testing.assert_allclose(to_host(state.momentum), 0.9 * grads[0] + 0.1 * grads[1], atol=TOLERANCE)
    cold = LionK("half-square", lr=1.0, beta1=0.5, beta2=0.9, weight_decay=0.0)
    assert np.abs(iterates(warm, w, grads) - iterates(cold, w, grads)).max() > 0.1


# The constraint set


BALLS = ("l1", "l2", "nuclear", "spectral", "ky-fan", "row-sum", "huber", "sqrt-nuclear", "log-cosh", "max-entry", "lp")


@pytest.mark.parametrize("name", BALLS)
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.0)], ids=["lion's betas", "no memory"])
def test_once_inside_the_iterates_stay_inside_under_any_gradients(name, betas):
    """A convex combination of W and a point of the ball: each step adds a few roundings of numbers of order 1."""
    decay, lr = 2.0, 0.2
    k = convex.make(name)
    w, grads = sequence(steps=100, seed=1)
    w = w / (decay * k.ball.value(w))  # on the boundary
    # the first half of the gradients pushes straight outward, where the bound is attained
    path, method = [], LionK(k, lr, *betas, decay)
    state = method.init(w)
    for index, g in enumerate(grads):
        w, state = method.step(w, -100 * w if index < 50 else g, state)
        path.append(decay * k.ball.value(w))
    assert max(path) <= 1 + 100 * 32 * np.finfo(float).eps * w.size
    # the control: without decay twenty such pushes of length 0.2 leave the ball
    assert k.ball.value(iterates(LionK(k, lr, *betas, 0.0), w, [-100 * w] * 20)[-1]) > 1.5 / decay


@pytest.mark.parametrize("name", BALLS)
def test_from_outside_the_excess_shrinks_by_a_fixed_share_a_step_whatever_the_gradients(name):
    decay, lr = 2.0, 0.1
    k = convex.make(name)
    w, grads = sequence(steps=40, seed=2)
    w = 30 * w / k.ball.value(w)
    path = np.concatenate([[k.ball.value(w)], k.ball.value(iterates(LionK(k, lr, weight_decay=decay), w, grads))])
    shares = (1 - lr * decay) ** np.arange(41)
    assert np.all(path - 1 / decay <= shares * (path[0] - 1 / decay) * (1 + 1e-12))
    assert path[-1] - 1 / decay < 0.01  # 30 * 0.8^40 = 0.004
    # the control: half the decay cannot keep up with the rate of the whole one
    slow = k.ball.value(iterates(LionK(k, lr, weight_decay=decay / 2), w, grads))
    assert np.any(slow - 1 / decay > shares[1:] * (path[0] - 1 / decay) * 1.01)


def test_blocks_of_rows_keep_each_its_own_ball():
    k = RowBlocks(((2, convex.make("nuclear")), (3, convex.make("l1"))))
    w, grads = sequence(steps=60, seed=3)
    decay, lr = 0.5, 0.2
    method = LionK(k, lr, weight_decay=decay)
    path = iterates(method, 20 * w, grads)
    distance = k.distance(path, 1 / decay)
    assert np.all(distance[1:] <= 0.9 * distance[:-1] + 1e-13)
    alone = iterates(LionK("nuclear", lr, weight_decay=decay), 20 * w[:2], [g[:2] for g in grads])
    np.testing.assert_allclose(path[:, :2], alone, atol=TOLERANCE)


def test_with_decay_it_settles_at_the_projection_and_without_at_the_optimum():
    """f = |W - Y|^2 / 2: the constrained minimizer is Y projected.

    A memory of ten steps, each of length lr an entry at most, leaves a ripple of 10 lr sqrt(12); the start is
    forgotten at the rate exp(-lr decay k) <= exp(-8), which of a distance below 8 leaves less than that.
    """
    target = 2.0 * np.random.default_rng(4).standard_normal((4, 3))
    problem = problems.KroneckerQuadratic(np.eye(4), np.eye(3), target, np.zeros((4, 3)))
    lr, steps = 4e-3, 4000
    ripple = 10 * lr * np.sqrt(12)

    def last(k, decay):
        method = LionK(k, lr, beta1=0.9, beta2=0.9, weight_decay=decay)
        return run(problem, method, steps, record=("iterate",), every=steps)["iterate"][-1]

    for name, decay in (("l1", 1.0), ("nuclear", 0.5), ("row-sum", 0.7)):
        k = convex.make(name)
        nearest = k.project(target, 1 / decay)
        assert np.linalg.norm(nearest - target) > 3 * ripple  # the constraint is active
        assert np.linalg.norm(last(k, decay) - nearest) < ripple
        assert np.linalg.norm(last(k, 0.0) - target) < ripple


# Arrays


@pytest.mark.parametrize("name", ["l1", "nuclear", "l2", "huber", "sqrt-nuclear", "half-square"])
def test_numpy_and_the_strict_backend_agree(name, xp):
    w, grads = sequence((2, 5, 4))
    np.testing.assert_allclose(
        iterates(LionK(name, LR), w, grads, xp), iterates(LionK(name, LR), w, grads), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("name", ["l1", "nuclear", "huber", "half-square"])
def test_a_batch_of_hyper_parameters_is_its_members_one_by_one(name, xp):
    w, grads = sequence((3, 5, 4))
    hyper = {
        "lr": np.array([0.01, 0.1, 0.3]),
        "beta1": np.array([0.0, 0.5, 0.9]),
        "beta2": np.array([0.9, 0.95, 0.99]),
        "weight_decay": np.array([0.0, 0.1, 1.0]),
    }
    together = iterates(LionK(name, **{key: xp.asarray(v) for key, v in hyper.items()}), w, grads, xp)
    for index in range(3):
        single = LionK(name, **{key: float(v[index]) for key, v in hyper.items()})
        alone = iterates(single, w[index], [g[index] for g in grads], xp)
        np.testing.assert_allclose(together[:, index], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shape", [(5, 4), (1, 6), (1, 1), (2, 3, 4, 3), (0, 4, 3)], ids=str)
def test_shape_dtype_and_device_are_kept(shape, xp):
    method = LionK("nuclear", warm_start=True)
    w, grads = sequence(shape, 2)
    w = xp.asarray(w, dtype="float32")
    state = method.init(w)
    for g in grads:
        w, state = method.step(w, xp.asarray(g, dtype="float32"), state)
        for array in (w, state.momentum):
            assert array.shape == shape
            assert dtype_name(array) == "float32"
            assert device_of(array) == xp.device


@pytest.mark.parametrize("label", hard_matrices())
def test_hard_gradients_give_finite_weights_and_zero_ones_no_step(label, xp):
    g = hard_matrices()[label]
    w = np.random.default_rng(5).standard_normal(g.shape)
    for name in ("l1", "nuclear", "l2", "spectral", "huber", "sqrt-nuclear"):
        assert np.all(np.isfinite(iterates(LionK(name), w, [g, -g, g], xp)))
    still = iterates(LionK("nuclear", weight_decay=0.0), w, [np.zeros_like(g)] * 2, xp)
    np.testing.assert_array_equal(still, np.stack([w, w]))


# Names and errors


def test_k_may_be_a_name_and_sets_the_norm_of_the_method():
    assert LionK("nuclear").k == NormFunction(norms.Nuclear())
    assert LionK("nuclear").norm == norms.Spectral()
    assert LionK("l1").norm == norms.MaxEntry()
    assert LionK("half-square").norm == norms.Frobenius()
    assert LionK(convex.make("huber-rows")).norm == norms.RowMax()
    assert LionK(**LionK("huber", lr=0.5).config()) == LionK("huber", lr=0.5)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LionK("nuclar"), UnknownName, "Unknown convex function 'nuclar'; did you mean 'nuclear'"),
        (lambda: LionK(norms.Nuclear()), TypeError, r"k must be a convex function or the name of one; got Nuclear\(\)"),
        (lambda: LionK(None), TypeError, "k must be a convex function or the name of one; got None"),
        (lambda: LionK(lr=0.0), ValueError, r"LionK.lr must lie in \(0, inf\); got 0"),
        (lambda: LionK(lr=np.array([0.1, -1.0])), ValueError, r"LionK.lr must lie in \(0, inf\); got -1"),
        (lambda: LionK(beta1=1.0), ValueError, r"LionK.beta1 must lie in \[0, 1\); got 1"),
        (lambda: LionK(beta2=-0.1), ValueError, r"LionK.beta2 must lie in \[0, 1\); got -0.1"),
        (lambda: LionK(weight_decay=float("nan")), ValueError, r"LionK.weight_decay must lie in \[0, inf\); got nan"),
    ],
    ids=[
        *("a misspelt name", "a norm", "nothing", "no step", "one bad step of two", "beta1 of one"),
        *("a negative beta2", "decay not a number"),
    ],
)
def test_a_bad_option_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_gradient_that_does_not_fit_is_refused():
    method, w = LionK("l1"), np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"LionK.step needs weights and gradient of one shape and dtype"):
        method.step(w, np.zeros((3, 2)), method.init(w))
    lr = LionK("l1", lr=np.ones(2))
    with pytest.raises(ValueError, match=r"does not broadcast over the batch axes \(\)"):
        lr.step(w, w, lr.init(w))
    blocks = LionK(RowBlocks(((5, convex.make("l1")),)))
    with pytest.raises(ValueError, match="RowBlocks has 5 rows in its blocks"):
        blocks.step(w, w, blocks.init(w))
