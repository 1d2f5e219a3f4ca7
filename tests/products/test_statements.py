"""Statements are LaTeX: what stands after a space command must not run into its name."""

from __future__ import annotations

import re

import pytest

from orthotheory import theory


@pytest.mark.parametrize("label", theory.TABLE)
def test_spaces_in_a_statement_are_commands_of_their_own(label):
    assert not re.search(r"\\q+uad[A-Za-z]", theory.TABLE[label].statement)
