"""The paper's tables of races and confirmations: computed from what is stored, and nothing stored gives no table."""

from __future__ import annotations

from orthotheory.typeset.searches import momentum_table
from orthotheory.typeset.speed import cone_table, read_stored, speed_numbers, sweep_table

SWEEPS = {
    "sweeps": {
        "32": {"seeds": 4, "steps": 10, "rows": {"compiled": {"milliseconds": 2.0}, "jax": {"milliseconds": 25.0}}},
        "8": {"seeds": 4, "steps": 10, "rows": {"compiled": {"milliseconds": 2.0}, "jax": {"milliseconds": 3.0},
                                                "numpy": {"milliseconds": 6.0}}},
    },
    "entrywise": {"lion": {"rows": {"fused": {"milliseconds": 0.5}, "numpy": {"milliseconds": 4.0}}}},
}  # fmt: skip
TIMES = {"numba auto": {"milliseconds": 0.01, "error": 2e-16}, "torchjd": {"milliseconds": 12.0, "error": 1e-5}}
CONES = {"results": [{"m": 2, "n": 100, "count": 10, "rows": TIMES}]}


def rows(table: str) -> list[list[str]]:
    lines = table.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    return [[cell.strip() for cell in line.removesuffix("\\\\").split("&")] for line in lines]


def test_sweeps_are_in_the_order_of_their_sides_with_ratios_of_times():
    assert rows(sweep_table(SWEEPS)) == [
        ["8", "64", "10", "2", "1.50", "", "", "0.50"],
        ["32", "64", "10", "2", "12.5", "", "", ""],
    ]


def test_cones_are_compared_with_the_peer_and_their_own_error():
    assert rows(cone_table(CONES)) == [["10", "2", "100", "1200", "", "", "2e-16"]]


def test_the_numbers_count_the_races_and_nothing_stored_is_no_race(tmp_path):
    assert speed_numbers(SWEEPS, CONES) == {
        ("sweep races", "count"): 2.0, ("cone races", "count"): 1.0, ("sweep races", "lion fused"): 8.0,
    }  # fmt: skip
    nothing = read_stored(tmp_path / "absent.json")
    assert sweep_table(nothing) == cone_table(nothing) == ""
    assert set(speed_numbers(nothing, nothing).values()) == {0.0}


def test_confirmations_stand_in_columns_with_an_asterisk_where_they_miss():
    fit = {"schedule": "EMA", "theory": -0.25, "slope": -0.24, "low": -0.26, "high": -0.22, "verdict": "consistent"}
    found = rows(momentum_table([fit, {**fit, "slope": -0.2, "low": -0.21, "high": -0.19, "verdict": "slower"}]))
    assert [cell.replace("\\scriptstyle", "") for cell in found[0]] == [
        "EMA", "\\ensuremath{-0.250}", "$-0.240{\\,\\pm\\,0.020}$", "$-0.200{\\,\\pm\\,0.010}^*$",
    ]  # fmt: skip
    assert momentum_table([]) == ""
