"""Whatever is read from outside, under a fuzzer that is guided by coverage (atheris).

    pip install atheris        # Linux, CPython 3.11 to 3.13
    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --seconds 120 [--target records]

The targets are those of `tests/fuzz_world.py`: records, retrieval sets, skills, uses, weights,
filters, metadata, damaged folders of an index, a store and a checkpoint, and requests over HTTP and
MCP. Each input must be read or refused in a sentence. Prints the number of inputs and of branches
that were reached, and what was found with its input; exits with 1 if anything was.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"cov: (\d+)")


def fuzz(name: str, *, seconds: int, corpus: Path) -> None:
    """Fuzzes one target in this process, which ends with it."""
    import atheris

    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "retrieval")]
    with atheris.instrument_imports(include=["subspace"], enable_loader_override=False):
        from conftest import make_tiny_qwen
        from fuzz_world import Fuzzing
        from retrieval_world import make_model

    fuzzing = Fuzzing(make_model(make_tiny_qwen(corpus.parent / "model")))
    target = fuzzing.targets[name]
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=30", "-rss_limit_mb=8000"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
    atheris.Fuzz()


def names() -> list[str]:
    """The names of the targets, without making them."""
    source = (ROOT / "tests" / "test_fuzz.py").read_text(encoding="utf-8")
    listed = source.split("NAMES = (")[1].split("\n)\n")[0]
    return re.findall(r'"([^"]+)"', listed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=names(), action="append")
    parser.add_argument("--here", metavar="CORPUS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        fuzz(arguments.target[0], seconds=arguments.seconds, corpus=Path(arguments.here))
        return
    print("| target | inputs | a second | branches | finding |\n|---|---|---|---|---|", flush=True)
    found = False
    for name in arguments.target or names():
        corpus = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"), "corpus")
        corpus.mkdir()
        command = [sys.executable, __file__, "--target", name, "--here", str(corpus)]
        done = subprocess.run(
            [*command, "--seconds", str(arguments.seconds)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=corpus.parent,
        )
        said = done.stdout + done.stderr
        count, took = next(iter(_DONE.findall(said)), ("?", "1"))
        covered = max(map(int, _COVERED.findall(said)), default=0)
        problem = said[-3000:] if done.returncode else ""
        rate = int(count) // max(int(took), 1) if count.isdecimal() else "?"
        print(f"| {name} | {count} | {rate} | {covered} | {'see below' if problem else 'none'} |")
        if problem:
            found = True
            print(problem, flush=True)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
