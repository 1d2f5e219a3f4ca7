"""Names: what is not in a table answers with the nearest right names, or with all of them."""

import numpy as np
import pytest

from orthotheory import methods, norms, polar, problems
from orthotheory.names import UnknownName, build, closest, suggestion


def test_a_near_miss_lists_the_nearest_names_best_first():
    assert suggestion("spectrl", ["nuclear", "spectral"]) == "did you mean 'spectral'?"
    assert suggestion("muon-torc", methods.names()).startswith("did you mean 'muon-torch' or ")


def test_upper_case_is_understood_as_a_near_miss():
    assert suggestion("SPECTRAL", norms.names()).startswith("did you mean 'spectral'")


def test_a_name_near_nothing_lists_everything():
    assert suggestion("zzz", ["gd", "muon"]) == "known are gd, muon."


@pytest.mark.parametrize(
    ("make", "kind", "names"),
    [
        (norms.make, "norm", norms.names()),
        (methods.make, "method", methods.names()),
        (problems.make, "problem", problems.names()),
        (lambda name: polar.polar_factor(np.eye(2), name), "plan", polar.names()),
    ],
    ids=["norm", "method", "problem", "plan"],
)
def test_every_table_refuses_a_misspelt_name_with_the_right_one(make, kind, names):
    for right in names:
        with pytest.raises(UnknownName) as error:
            make(right + "x")
        message = str(error.value)
        assert message.startswith(f"Unknown {kind} {right + 'x'!r}; did you mean ")
        assert repr(right) in message


def test_a_known_name_returns_the_very_item():
    item = object()
    assert closest("a", {"a": item, "b": None}, "thing") is item


def test_an_unknown_name_is_a_value_error_so_that_callers_need_no_import():
    with pytest.raises(ValueError, match="Unknown thing 'c'; known are a, b"):
        closest("c", {"a": 0, "b": 1}, "thing")


def test_a_misspelt_option_names_the_nearest_option_and_does_not_call_the_factory():
    calls = []

    def factory(*, momentum=0.9, weight_decay=0.0):
        calls.append((momentum, weight_decay))
        return momentum

    with pytest.raises(UnknownName, match="muon has no option 'momentm'; did you mean 'momentum'"):
        build(factory, {"momentm": 0.5}, "muon")
    assert calls == []
    assert build(factory, {"momentum": 0.5}, "muon") == 0.5
