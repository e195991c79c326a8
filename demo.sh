#!/bin/sh
# The README's first command: trains on the project's own corpus, shows what the blocks hold, and
# runs one query under two weightings. Usage: sh demo.sh SUBSPACE
set -eu
subspace=$1
query="Hey, so I stuck some tomato seeds in a pot by the window and now there's loads of little green bits. How cool is that?"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. train four blocks on data/factorial (2,880 texts)"
"$subspace" fit --config configs/demo.yaml
say "2. what does every block hold of every factor, on test texts?"
"$subspace" probe --checkpoint checkpoints/demo --data data/factorial --output runs/demo/report
say "3. the same query under two weightings"
"$subspace" index --checkpoint checkpoints/demo --input data/factorial/records.jsonl --output runs/demo/index
for weights in topic=1 style=1; do
    echo
    "$subspace" search --checkpoint checkpoints/demo --index runs/demo/index --query "$query" --weights "$weights" -k 4
done
