"""Runs the command line by `python -m subspace`."""

from subspace.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
