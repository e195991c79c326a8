"""The command line: the only place that sees both data and training."""

from subspace.cli.main import main

__all__ = ["main"]
