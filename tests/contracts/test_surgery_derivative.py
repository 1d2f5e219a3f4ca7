"""Derivatives of cone projections and of aggregators: central differences, fixed faces, and where there is none.

Central differences at h = 1e-5 err by about h^2 times the third derivative and eps / h: 1e-6 relative is their limit.
"""

import numpy as np
import pytest
from jacobians import families

from orthotheory import surgery
from orthotheory.arrays import to_host
from orthotheory.surgery.derivative import jvp, project_jvp

RULES = ("upgrad", "dual-proj", "mgda", "nash-mtl", "fairgrad")
H = 1e-5


def direction(j, seed=1):
    return np.random.default_rng(seed).standard_normal(j.shape) * np.abs(j).max()


@pytest.mark.parametrize("family", ["generic", "conflicting", "a zero row"])
def test_the_derivative_of_a_projection_is_that_of_central_differences(family):
    j = families(12, 4, 7, seed=4)[family]
    g = np.random.default_rng(0).standard_normal((12, 3, 7))
    dj, dg = direction(j), direction(g, 2)
    if family == "a zero row":
        dj[:, -1] = 0.0
    found = project_jvp(j, g, dj, dg)
    ahead, behind = (surgery.project(j + t * dj, g + t * dg).point for t in (H, -H))
    strict = found.margin > 1e-3
    assert strict.mean() > 0.8
    error = np.abs((ahead - behind) / (2 * H) - found.tangent).max(axis=-1)
    assert error[strict].max() <= 1e-6 * np.abs(found.tangent).max()
    np.testing.assert_allclose(found.point, surgery.project(j, g).point, atol=1e-13)


def test_for_a_fixed_cone_the_derivative_is_the_projector_on_the_null_space_of_the_active_rows():
    j = families(12, 4, 7, seed=4)["conflicting"]
    g = np.random.default_rng(0).standard_normal((12, 1, 7))
    found = [project_jvp(j, g, 0 * j, np.broadcast_to(e, g.shape).copy()).tangent[:, 0] for e in np.eye(7)]
    p = np.stack(found, axis=-1)
    np.testing.assert_allclose(p @ p, p, atol=1e-12)
    np.testing.assert_allclose(p, np.swapaxes(p, 1, 2), atol=1e-12)
    number = (surgery.project(j, g).multipliers[:, 0] > 1e-9).sum(axis=1)
    np.testing.assert_allclose(np.trace(p, axis1=1, axis2=2), 7 - number, atol=1e-11)
    assert number.max() >= 2


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("family", ["generic", "conflicting"])
def test_the_derivative_of_an_aggregator_is_that_of_central_differences(name, family):
    j = families(12, 3, 6, seed=6)[family]
    rule, dj = surgery.make(name), direction(j)
    found = jvp(rule, j, dj)
    strict = found.margin > 1e-3
    assert strict.sum() >= 6
    numeric = (rule(j + H * dj) - rule(j - H * dj)) / (2 * H)
    error = np.abs(numeric - found.tangent).max(axis=-1)
    assert error[strict].max() <= 1e-5 * np.abs(found.tangent).max()
    np.testing.assert_allclose(found.point, rule(j), atol=1e-12 * np.abs(rule(j)).max())
    fixed = np.einsum("bm,bmn->bn", rule.weights(j), dj)  # the control: weights that did not move
    assert np.abs(numeric - fixed).max() > 1e-2 * np.abs(numeric).max()


@pytest.mark.parametrize("name", RULES)
def test_along_the_jacobian_itself_the_derivative_is_the_degree_times_the_update(name):
    """Euler's identity for A(t J) = t^h A(J), also at 1e-150 and 1e150."""
    rule = surgery.make(name)
    for family in ("generic", "conflicting", "tiny", "huge"):
        j = families(12, 3, 6, seed=6)[family]
        found = jvp(rule, j, j)
        size = np.abs(found.point).max()
        np.testing.assert_allclose(found.tangent, rule.homogeneity * found.point, atol=1e-9 * size)


def test_two_orthogonal_rows_are_no_place_of_strict_complementarity():
    j = np.array([[1.0, 0.0], [0.0, 1.0]])
    turn = np.array([[0.0, 0.0], [-1.0, 0.0]])
    found = jvp(surgery.make("upgrad"), j, turn)
    assert not bool(found.strict)
    rule = surgery.make("upgrad")
    one_sided = [(rule(j + t * turn) - rule(j)) / t for t in (H, -H)]
    assert np.abs(one_sided[0] - one_sided[1]).max() > 0.1


def test_the_derivative_follows_the_kind_and_the_batch_of_the_jacobian(xp):
    j = families(6, 3, 6, seed=6)["conflicting"].reshape(2, 3, 3, 6)
    for name in RULES:
        found = jvp(surgery.make(name), xp.asarray(j), xp.asarray(direction(j)))
        expected = jvp(surgery.make(name), j, direction(j))
        np.testing.assert_allclose(to_host(found.tangent), expected.tangent, atol=1e-9)
        assert found.margin.shape == (2, 3)


def test_another_rule_and_another_shape_are_refused():
    j = np.eye(2)
    with pytest.raises(TypeError, match="UPGrad, DualProj"):
        jvp(surgery.make("krum"), j, j)
    with pytest.raises(TypeError, match="max_norm"):
        jvp(surgery.make("nash-mtl", max_norm=1.0), j, j)
    with pytest.raises(ValueError, match="shape"):
        jvp(surgery.make("mgda"), j, j[:1])
