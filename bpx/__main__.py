"""The command ``bpx``: a clear line where typer is missing, else `bpx.cli`."""

from __future__ import annotations

import importlib.util
import sys

from .extras import PACKAGES


def main() -> None:
    if importlib.util.find_spec("typer") is None:
        print(f"bpx: the command line needs typer: pip install {PACKAGES['cli']}", file=sys.stderr)
        raise SystemExit(2)
    from .cli import main as command

    command()


if __name__ == "__main__":
    main()
