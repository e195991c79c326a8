"""The command line: `subspace COMMAND ...`."""

from subspace.cli.main import main

__all__ = ["main"]
