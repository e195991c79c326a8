"""Writes a sample of labelled sources: at most some texts of each, whole groups, by a fixed seed.

    python benchmarks/sample_sources.py --data FOLDER --output SAMPLE --texts 1500

What docs/results.md measures was measured on such a sample.
"""

import argparse
from pathlib import Path

from reference_checkpoint import TEXTS, sample

from subspace.data import read_sources
from subspace.files import write_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument("--texts", type=int, default=TEXTS)
    arguments = parser.parse_args()
    for name, records in read_sources(arguments.data).items():
        chosen = sample(records, count=arguments.texts)
        lines = [
            {"id": r.id, "text": r.text, "group": r.group, "factors": r.factors, "split": r.split}
            for r in chosen
        ]
        write_lines(Path(arguments.output) / name / "records.jsonl", lines)
        print(f"{name}: {len(chosen)} of {len(records)}")


if __name__ == "__main__":
    main()
