"""What the theorems on norms refuse, and the mistakes that they find."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from orthotheory import norms
from orthotheory.theory import check, get
from orthotheory.theory import norm_duality as nd
from orthotheory.theory.contract import AssumptionFails


def _row(name: str, matrix=None) -> nd.Row:
    matrix = np.random.default_rng(0).standard_normal((4, 3)) if matrix is None else matrix
    return nd.Row(name, matrix, *nd.TABLE[name])


@pytest.mark.parametrize("label", ["lmo-attains-dual", "norm-moreau"])
def test_the_zero_matrix_is_refused_where_a_direction_is_needed(label):
    with pytest.raises(AssumptionFails, match="not zero"):
        check(get(label), _row("spectral", np.zeros((4, 3))))


def test_what_is_no_norm_is_refused():
    class Square(norms.Frobenius):
        def value(self, x):
            return super().value(x) ** 2

    with pytest.raises(AssumptionFails, match="is a norm"):
        check(get("norm-table"), _row("Frobenius")._replace(norm=Square()))


@pytest.mark.parametrize("name", nd.TABLE)
def test_a_percent_more_of_any_norm_is_found(name):
    row = _row(name)
    wrong = row._replace(norm=dataclasses.replace(norms.Scaled(row.norm, 1.01)))
    assert check(get("norm-table"), row).holds
    assert not check(get("norm-table"), wrong).holds
    assert not check(get("norm-moreau"), wrong).holds
