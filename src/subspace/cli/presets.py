"""`subspace presets`: lists the named mixes of recency, importance and relevance."""

import argparse
import json

from subspace.cli.arguments import Commands


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "presets",
        help="list the mixes of recency, importance and relevance",
        description="Lists the presets that `subspace search --preset` takes.",
        epilog="example: subspace presets --json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.retrieval.presets import PRESETS

    if arguments.json:
        print(json.dumps(dict(PRESETS), indent=1))
        return
    print(f"{'preset':22s} recency  importance  relevance")
    for name, (recency, importance, relevance) in PRESETS.items():
        print(f"{name:22s} {recency:7.2f}  {importance:10.2f}  {relevance:9.2f}")
