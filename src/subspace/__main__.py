"""The command line as `python -m subspace`."""

from subspace.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
