#!/bin/sh
# `subspace search` from a cold start: seconds of the whole process, several runs, and proof that
# neither pytorch_lightning nor wandb nor jsonargparse is imported. Run `make demo` first.
#   sh benchmarks/cold_search.sh [BIN]
set -eu
bin=${1:-.venv/bin}
"$bin/python" - "$bin" <<'PYTHON'
import statistics, subprocess, sys, time

bin = sys.argv[1]
arguments = ["search", "--checkpoint", "checkpoints/demo", "--index", "runs/demo/index",
             "--query", "how do I keep slugs away", "--json"]
seconds = []
for _ in range(6):
    start = time.perf_counter()
    subprocess.run([f"{bin}/subspace", *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds.append(time.perf_counter() - start)
print(f"cold search: median {statistics.median(seconds[1:]):.2f} s, "
      f"worst {max(seconds[1:]):.2f} s of 5 runs after one warm-up")
code = ("import sys; from subspace.cli import main; "
        f"assert main({arguments!r}) == 0; "
        "print([m for m in ('pytorch_lightning', 'wandb', 'jsonargparse', 'sklearn') "
        "if m in sys.modules] or 'no trainer imported', file=sys.stderr)")
subprocess.run([f"{bin}/python", "-c", code], check=True, stdout=subprocess.DEVNULL)
PYTHON
