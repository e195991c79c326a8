"""Arguments that the benchmarks on a retrieval set share."""

import argparse


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds `--data` and `--until`."""
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder in the BEIR layout")
    parser.add_argument(
        "--until",
        metavar="TEXT",
        help="read every document only up to this text, such as ' Steps:'",
    )
