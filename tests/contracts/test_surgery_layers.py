"""Rules by layer and chunk: ranks of Sculpting Subspaces, merges of vectors, Lattice's chunks, DO-Merging's power."""

import numpy as np
import pytest

from orthotheory.arrays import to_host
from orthotheory.surgery.layers import layer_importance, merge_layers, sculpting_ranks
from orthotheory.surgery.merging import decouple, iso_c
from orthotheory.surgery.tangent import Lattice


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_layers_that_hardly_turn_their_input_freeze_more_directions(xp):
    inputs = [draw(50, 12, seed=s) for s in range(3)]
    outputs = [
        x + noise * draw(50, 12, seed=9 + s) for s, (x, noise) in enumerate(zip(inputs, [0.1, 1, 5], strict=True))
    ]
    importance = layer_importance([xp.asarray(x) for x in inputs], [xp.asarray(y) for y in outputs])
    assert np.mean(importance) == pytest.approx(1, rel=1e-14)
    assert importance[0] > importance[1] > importance[2]
    ranks = sculpting_ranks(importance, [(40, 60)] * 3, least=0.1, target=0.5)
    assert ranks[0] > ranks[1] > ranks[2]
    assert abs(np.mean(ranks) - 0.5 * 40) <= 0.5  # rounding
    assert sculpting_ranks([1, 1, 1], [(40, 60)] * 3) == [20] * 3


def test_ranks_stay_possible_and_layers_without_importance_are_equal():
    assert sculpting_ranks([0.0, 50.0], [(4, 9), (7, 5)], least=0.0, target=0.5) == [1, 4]
    assert layer_importance([draw(3, 2)] * 2, [-draw(3, 2)] * 2) == [1.0, 1.0]
    with pytest.raises(ValueError, match="layer 1"):
        layer_importance([draw(3, 2), draw(3, 2)], [draw(3, 2), draw(3, 4)])
    with pytest.raises(ValueError, match="two rows"):
        sculpting_ranks([1.0], [(1, 5)])


def test_matrices_are_merged_by_the_rule_and_vectors_by_the_mean(xp):
    layers = {"weight": draw(3, 6, 4), "bias": draw(3, 6, seed=1), "kernel": draw(3, 2, 2, 2, 2, seed=2)}
    merged = merge_layers({name: xp.asarray(x) for name, x in layers.items()})
    np.testing.assert_allclose(to_host(merged["weight"]), iso_c(layers["weight"]), atol=1e-14)
    for name in ("bias", "kernel"):
        np.testing.assert_allclose(to_host(merged[name]), layers[name].mean(axis=0), atol=1e-15)
    with pytest.raises(ValueError, match="'bias'"):
        merge_layers({"bias": draw(0, 6)})


def test_a_chunk_of_one_is_a_write_and_a_chunk_differs_from_single_writes_by_the_square_of_the_rate(xp):
    slots, keys, values = draw(2, 5, 8), draw(2, 6, 5, seed=1), draw(2, 6, 8, seed=2)
    one = Lattice(0.3).write_chunk(*(xp.asarray(x) for x in (slots, keys[:, :1], values[:, :1])))
    np.testing.assert_allclose(to_host(one), Lattice(0.3).write(slots, keys[:, 0], values[:, 0]), atol=1e-14)
    gaps = []
    for rate in (1e-3, 1e-4):
        rule, s = Lattice(rate), slots
        for t in range(6):
            s = rule.write(s, keys[:, t], values[:, t])
        gaps.append(np.abs(s - rule.write_chunk(slots, keys, values)).max())
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.1)  # not 10: the first order agrees


def test_a_chunk_leaves_every_slot_at_least_as_long():
    slots, keys, values = draw(5, 8), draw(6, 5, seed=1), draw(6, 8, seed=2)
    length = np.linalg.norm(slots, axis=1)
    change = Lattice().write_chunk(slots, keys, values) - slots
    assert np.abs((change * slots).sum(axis=1)).max() <= 1e-13
    assert (np.linalg.norm(slots + change, axis=1) >= length).all()
    free = Lattice(orthogonal=False).write_chunk(slots, keys, values) - slots
    assert np.abs((free * slots).sum(axis=1)).max() > 0.1  # the delta rule, the negative control
    with pytest.raises(ValueError, match="write_chunk needs keys"):
        Lattice().write_chunk(slots, keys[0], values)


def test_the_power_of_decoupled_norms_goes_from_mean_to_maximum(xp):
    tasks = draw(3, 6, 4) * np.array([1.0, 10.0, 100.0])[:, None, None]
    tasks[:, :, 3] = 0
    norms = np.linalg.norm(tasks, axis=1)
    for power in (0.5, 1.0, 2.0, 60.0):
        merged = to_host(decouple(xp.asarray(tasks), renormalize=True, power=power))
        expected = np.mean(norms[:, :3] ** power, axis=0) ** (1 / power)
        np.testing.assert_allclose(np.linalg.norm(merged, axis=0)[:3], expected, rtol=1e-12)
        assert (merged[:, 3] == 0).all()
    np.testing.assert_allclose(expected, norms[:, :3].max(axis=0), rtol=0.02)
    with pytest.raises(ValueError, match="power"):
        decouple(tasks, power=0.0)
