"""Headers of files with a wrong value in any one place."""

from __future__ import annotations

import json


def damaged(header, values, at=()):
    """Copies of a header, each with one of the values in one place below the key path `at`."""
    for place in _places(_at(header, at), at):
        for value in values:
            copied = json.loads(json.dumps(header))
            _at(copied, place[:-1])[place[-1]] = value
            yield copied


def _places(value, at):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*at, key)
            yield from _places(value[key], (*at, key))


def _at(value, place):
    for key in place:
        value = value[key]
    return value
