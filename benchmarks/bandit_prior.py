"""Makes the priors of `preset="auto"` from replays, and measures it on sets that it has not seen.

    python benchmarks/bandit_prior.py shares --data FOLDER
    python benchmarks/bandit_prior.py measure --data FOLDER [--sets kusp_skills,cranfield]

FOLDER holds one folder a set. Sets in the BEIR layout are taken as they are (of `kusp_skills` the
skills up to their steps; of `beam_memory` the first eight conversations in one memory). From
labelled texts tasks are made: short queries that ask for the facets of their topic (`qulac`),
questions that ask for others of the same intent (`banking77`, `clinc`), and simple sentences that
ask for the original (`mytomorrows`, `onestop`).

`shares` prints nDCG@5 of every preset in thousandths of that of relevance alone: `REPLAYED` in
`subspace.retrieval.usage.priors`. `measure` replays each set with a bandit whose priors do not know
it, in five orders with two seeds each: at most 300 tasks, as shares of relevance alone in the same
order (mean, 95 % interval over tasks, worst replay), and the last 100 tasks as a share of the best
fixed preset.
"""

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from subspace.bench.bench_set import read_bench_set
from subspace.bench.replay import FEEDBACK, Feedback, Fixed, Learning, Run, replay
from subspace.bench.spaces import Space, make_spaces
from subspace.evaluation.scores import mean_interval
from subspace.model import Model, load
from subspace.model.embed_texts import open_stored_encoder
from subspace.model.markdown import table
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.presets import PRESETS
from subspace.retrieval.usage.bandit import WeightBandit
from subspace.retrieval.usage.priors import REPLAYED, learn_priors
from subspace.retrieval.weights import Weights

Tasks = tuple[list[str], list[str], np.ndarray]
TASKS, LATE = 300, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["shares", "measure"])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--sets", help="names, separated by commas; all if left out")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--scope", choices=SCOPES, default="block")
    arguments = parser.parse_args()
    model = load(arguments.checkpoint)
    default = list(REPLAYED) if arguments.what == "shares" else list(SETS)
    rows = []
    for name in arguments.sets.split(",") if arguments.sets else default:
        space, relevant = read_space(name, arguments.data, model=model, store=arguments.store)
        rng = [np.random.default_rng([0, number]) for number in range(arguments.orders)]
        orders = [one.permutation(len(relevant))[:TASKS] for one in rng]
        fixed = replay_presets(space, relevant, orders, scope=arguments.scope)
        if arguments.what == "shares":
            shares = [round(1000 * float(fixed[p].mean() / fixed[None].mean())) for p in PRESETS]
            print(f'"{name}": ({", ".join(map(str, shares))}),', flush=True)
            continue
        for feedback in FEEDBACK:
            row = measure(
                *(name, space, relevant, orders),
                fixed=fixed,
                feedback=feedback,
                scope=arguments.scope,
            )
            print(" | ".join(row), flush=True)
            rows.append(row)
    names = ("set", "feedback", "relevance alone", "auto, share of it", "worst", "late / best")
    print("\n".join(table(names, rows)) if rows else "")


def replay_presets(
    space: Space, relevant: np.ndarray, orders: list[np.ndarray], *, scope: Scope
) -> dict[str | None, np.ndarray]:
    """Returns nDCG@5 (orders, tasks), in the order of the replay, by preset; None: relevance."""
    run = partial(replay, space, relevant=relevant, scope=scope)
    return {
        preset: np.array(
            [
                in_order(
                    run(order=order, policy=Fixed(Weights.make(layout=space.layout, preset=p)))
                )
                for order in orders
            ]
        )
        for preset, p in [(None, None), *((name, name) for name in PRESETS)]
    }


def in_order(run: Run) -> np.ndarray:
    return run.ndcg[run.order]


def measure(
    name: str,
    space: Space,
    relevant: np.ndarray,
    orders: list[np.ndarray],
    *,
    fixed: dict[str | None, np.ndarray],
    feedback: Feedback,
    scope: Scope,
) -> list[str]:
    """Replays with bandits that have not seen the set; returns a row of the table."""
    priors, alone = learn_priors(without=name), fixed[None]
    found = []
    for number, order in enumerate(orders):
        for seed in (number, number + 1000):
            bandit = WeightBandit(":memory:", priors=priors, seed=seed)
            policy = Learning(bandit, layout=space.layout, feedback=feedback)
            found.append(
                in_order(replay(space, relevant=relevant, order=order, policy=policy, scope=scope))
            )
            bandit.close()
    auto = np.array(found).reshape(len(orders), 2, -1).mean(axis=1)
    low, high = interval(auto - alone, orders, level=float(alone.mean()), tasks=len(relevant))
    worst = (np.array(found).mean(axis=1) / alone.mean(axis=1).repeat(2)).min()
    best = max((fixed[preset] for preset in PRESETS), key=lambda one: float(one.mean()))
    late = auto[:, -LATE:].mean() / best[:, -LATE:].mean()
    share = f"{auto.mean() / alone.mean():.3f} ({low:.3f} to {high:.3f})"
    return [name, feedback, f"{alone.mean():.3f}", share, f"{worst:.3f}", f"{late:.3f}"]


def interval(
    gained: np.ndarray, orders: list[np.ndarray], *, level: float, tasks: int
) -> tuple[float, float]:
    """Returns the 95 % interval over tasks of what was gained, as a share of relevance alone."""
    total, count = np.zeros(tasks), np.zeros(tasks)
    for row, order in zip(gained, orders, strict=True):
        total[order] += row
        count[order] += 1
    low, high = mean_interval(total[count > 0] / count[count > 0])
    return 1 + low / level, 1 + high / level


# The sets.


def read_space(name: str, data: Path, *, model: Model, store: str) -> tuple[Space, np.ndarray]:
    documents, queries, relevant = SETS[name](data / name, model)
    encoder = open_stored_encoder(model, store=store)
    raw, _ = make_spaces(
        documents=encoder.encode(documents),
        queries=encoder.encode(queries, kind="query"),
        model=model,
    )
    return raw, relevant


def beir(folder: Path, model: Model, *, until: str | None = None) -> Tasks:
    data, _ = read_bench_set(folder, model=model, until=until)
    ids = [document.id for document in data.documents]
    asked = [query for query in data.queries if data.relevant(query)]
    relevant = np.array([np.isin(ids, data.relevant(query)) for query in asked])
    return [d.text for d in data.documents], [data.queries[q] for q in asked], relevant


def conversations(folder: Path, model: Model) -> Tasks:
    parts = [beir(one, model) for one in sorted(p for p in folder.iterdir() if p.is_dir())[:8]]
    relevant = np.zeros((sum(len(p[1]) for p in parts), sum(len(p[0]) for p in parts)), dtype=bool)
    row = column = 0
    for documents, queries, part in parts:
        relevant[row : row + len(queries), column : column + len(documents)] = part
        row, column = row + len(queries), column + len(documents)
    return [d for part in parts for d in part[0]], [q for part in parts for q in part[1]], relevant


def facets(folder: Path, _: Model) -> Tasks:
    rows = list(records(folder))
    asked = [row for row in rows if row["id"].endswith("-q")]
    found = [row for row in rows if not row["id"].endswith("-q")]
    groups = {row["group"] for row in found}
    asked = [row for row in asked if row["group"] in groups]
    return alike(asked, found, key=lambda row: row["group"])


def intents(folder: Path, _: Model, *, key: Callable[[dict[str, Any]], str], n: int) -> Tasks:
    rng, by = np.random.default_rng(0), defaultdict(list)
    for row in records(folder):
        by[key(row)].append(row)
    found, asked = [], []
    for name in sorted(by):
        rows = [by[name][place] for place in rng.permutation(len(by[name]))]
        found += rows[:n]
        asked += rows[n : n + 4]
    return alike([asked[row] for row in rng.permutation(len(asked))[:TASKS]], found, key=key)


def rewordings(folder: Path, _: Model) -> Tasks:
    groups: dict[str, dict[float, dict[str, Any]]] = defaultdict(dict)
    for row in records(folder):
        if row["group"]:
            groups[row["group"]][row["factors"]["complexity"]] = row
    names = sorted(name for name, versions in groups.items() if len(versions) > 1)
    names = [names[place] for place in np.random.default_rng(0).permutation(len(names))[:800]]
    asked = [groups[name][min(groups[name])] for name in names[:TASKS]]
    return alike(
        asked, [groups[name][max(groups[name])] for name in names], key=lambda row: row["group"]
    )


def alike(
    asked: list[dict[str, Any]], found: list[dict[str, Any]], *, key: Callable[[Any], str]
) -> Tasks:
    relevant = np.array([key(row) for row in asked])[:, None] == [key(row) for row in found]
    return [row["text"] for row in found], [row["text"] for row in asked], relevant


def records(folder: Path) -> Iterator[dict[str, Any]]:
    plain = folder / "records.jsonl"
    with (
        plain.open(encoding="utf-8")
        if plain.is_file()
        else gzip.open(folder / "records.jsonl.gz", "rt", encoding="utf-8")
    ) as lines:
        yield from map(json.loads, lines)


SETS: dict[str, Callable[[Path, Model], Tasks]] = {
    "kusp_skills": partial(beir, until=" Steps:"),
    "skillsbench": beir,
    "qulac": facets,
    "banking77": partial(intents, key=lambda row: row["factors"]["topic"], n=5),
    "clinc": partial(intents, key=lambda row: row["topic_fine"], n=4),
    "mytomorrows": rewordings,
    "onestop": rewordings,
    "cranfield": beir,
    "beam_memory": conversations,
}

if __name__ == "__main__":
    main()
