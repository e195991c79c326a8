#!/bin/sh
# The README's first command: fits blocks on the project's own corpus, shows whether they move hits,
# and runs one query plain, toward simpler texts, and in another register. Usage: sh demo.sh SUBSPACE
set -eu
subspace=$1
query="How do astronomers find new planets?"
tone="Hey, this is so cool, you will not believe it!"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. fit four blocks on data/factorial (2,880 texts)"
"$subspace" fit --config configs/demo.yaml
say "2. the same query plain, simpler, and in another register"
"$subspace" index --checkpoint checkpoints/demo --input data/factorial/records.jsonl --output runs/demo/index
"$subspace" search --checkpoint checkpoints/demo --index runs/demo/index --query "$query" -k 4
echo
"$subspace" search --checkpoint checkpoints/demo --index runs/demo/index --query "$query" --toward complexity=-1 -k 4
echo
"$subspace" search --checkpoint checkpoints/demo --index runs/demo/index --compose topic="$query" --compose style="$tone" -k 4
say "3. does a weight move the hits, and what does every block hold? (runs/demo/report)"
"$subspace" probe --checkpoint checkpoints/demo --data data/factorial --seeds 1 --output runs/demo/report
