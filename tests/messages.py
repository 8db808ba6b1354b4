"""A test of messages about what a user passes, for the tables of the test files."""

from __future__ import annotations

import re

import pytest


def test_of(cases):
    """A test that each call raises its error, with the message in it: (call, error, message)."""

    @pytest.mark.parametrize(("call", "error", "message"), cases, ids=[c[2][:50] for c in cases])
    def test(call, error, message):
        with pytest.raises(error, match=re.escape(message)):
            call()

    return test
