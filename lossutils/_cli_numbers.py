"""Numbers on the command line, each with its rule."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def number(convert: type, accepts: Callable[[float], bool], rule: str) -> Callable[[str], float]:
    """A `type` for argparse: an int or a float that is accepted, else an error that says the rule."""

    def read(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")
        return value

    return read
