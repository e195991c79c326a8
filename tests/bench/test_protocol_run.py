"""A protocol is measured once, with its costs, and bad input stops before the work."""

import json
from dataclasses import replace

import pytest
from protocol_world import DEFAULT, SPREADS, make_set

from subspace.bench import protocol_run
from subspace.bench import text_units as cut
from subspace.bench.protocol_results import Cost
from subspace.bench.protocol_run import make_key, run_protocols
from subspace.bench.protocol_tables import protocols_markdown, write_protocols
from subspace.bench.protocols import choose_protocols
from subspace.bench.readings import StoredVectors
from subspace.cli import main
from subspace.errors import ConfigError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Times are measured once: they need not be exact here."""
    monkeypatch.setattr(protocol_run, "_TURNS", 1)


class Counted(StoredVectors):
    """The store, and how many texts were asked of it."""

    asked = 0

    def encode(self, texts, **kind):
        self.asked += len(texts)
        return super().encode(texts, **kind)


def bench(names, data, *, setting, encoder, folder):
    source = Counted(encoder)
    found = run_protocols(
        choose_protocols(names, setting=setting),
        data=data,
        source=source,
        fresh=encoder.encoder,
        parts=folder / "parts",
        key=make_key(data, setting.model),
    )
    return found, source.asked


def test_an_interrupted_bench_goes_on_and_a_stale_part_is_measured_again(
    setting, encoder, tmp_path
):
    rest = {"encoder": encoder, "folder": tmp_path}
    data, parts = make_set(), tmp_path / "parts"
    first, asked = bench("pca-2", data, setting=setting, **rest)
    assert asked > 0
    again, asked = bench("pca-2", data, setting=setting, **rest)
    assert asked == 0
    assert [r.to_json() for r in again.results] == [r.to_json() for r in first.results]

    (parts / "pca-2.json").write_text((parts / "pca-2.json").read_text()[:50])
    damaged, asked = bench("pca-2,factored-weights", data, setting=setting, **rest)
    assert asked > 0
    assert damaged.results[1].mean("mrr") == first.results[1].mean("mrr")

    other = replace(setting, weights=DEFAULT)
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    bench("pca-2,factored-weights", data, setting=other, **rest)
    after = {path.name: path.read_bytes() for path in parts.iterdir()}
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["factored-weights.json"]

    spread = replace(setting.model, score_spreads={**SPREADS, "style": 0.01})
    bench("pca-2,factored-weights", data, setting=replace(other, model=spread), **rest)
    assert (parts / "factored-weights.json").read_bytes() == after["factored-weights.json"]
    rescaled = replace(setting, model=spread)
    bench("pca-2,factored-weights", data, setting=rescaled, **rest)
    assert (parts / "factored-weights.json").read_bytes() != after["factored-weights.json"]

    relevance = {**data.relevance, "q0": {"d1": 1.0}}
    moved, asked = bench(
        "single-vector", replace(data, relevance=relevance), setting=setting, **rest
    )
    assert asked > 0
    assert moved.results[0].mean("mrr") != first.results[0].mean("mrr")


def test_bytes_are_those_of_the_vectors_and_the_single_vector_costs_one(setting, encoder, tmp_path):
    rest = {"encoder": encoder, "folder": tmp_path}
    found, _ = bench("hierarchical,pca-2", make_set(), setting=setting, **rest)
    single, hierarchical, pca = (result.cost for result in found.results)
    assert single == Cost(bytes=32 * 4, vectors=1, encode=1, query=1)
    units = sum(
        len(units(document))
        for units in (cut.whole, cut.paragraphs, cut.sentences)
        for document in make_set().documents
    )
    assert hierarchical.vectors == units / 4
    assert hierarchical.bytes == 32 * units
    assert hierarchical.encode > 1
    assert (pca.bytes, pca.encode) == (8, 1)

    write_protocols(found, folder=tmp_path)
    written = json.loads((tmp_path / "protocols.json").read_text())
    assert [row["name"] for row in written["protocols"]] == [r.name for r in found.results]
    assert (tmp_path / "protocols.png").read_bytes().startswith(b"\x89PNG")
    assert "| pca-2 | principal components, 2 dimensions |" in protocols_markdown(found)


def test_queries_are_asked_for(setting, encoder, tmp_path):
    rest = {"encoder": encoder, "folder": tmp_path}
    data = make_set()
    unjudged = replace(data, queries={"q9": "?a"}, relevance={})
    with pytest.raises(ConfigError, match="query 'q9' has no relevant document"):
        bench("single", unjudged, setting=setting, **rest)
    empty = replace(data, queries={}, relevance={})
    with pytest.raises(ConfigError, match="has no queries"):
        bench("single", empty, setting=setting, **rest)
    assert not (tmp_path / "parts").exists()


@pytest.fixture
def command(model, tmp_path):
    """The command line on a folder of the small set."""
    model.save(tmp_path / "checkpoint")
    (tmp_path / "data").mkdir()
    data = make_set()
    lines = [
        {"_id": d.id, "title": d.title, "text": d.text.removeprefix(f"{d.title}. ")}
        for d in data.documents
    ]
    (tmp_path / "data" / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"_id": name, "text": text} for name, text in data.queries.items()]
    (tmp_path / "data" / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    judged = [f"{q}\t{d}\t{g}" for q, found in data.relevance.items() for d, g in found.items()]
    (tmp_path / "data" / "qrels.tsv").write_text("\n".join(judged))
    paths = {"data": "data", "checkpoint": "checkpoint", "store": "store", "output": "out"}
    given = [part for k, v in paths.items() for part in (f"--{k}", str(tmp_path / v))]
    return lambda *more: main(["bench", "protocols", *given, *more])


def test_the_command_writes_what_it_prints(command, tmp_path, capsys):
    chosen = "late-interaction-pool-8,factored-chunked-topic"
    assert command("--protocols", chosen, "--until", " Then") == 0
    page = (tmp_path / "out" / "protocols.md").read_text()
    assert capsys.readouterr().out.startswith(page)
    assert "factored-chunked-topic" in page
    assert (tmp_path / "out" / "parts" / "factored-chunked-topic.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "mood=1"), "--weights: no block 'mood'; the blocks are topic, style"),
        (("--weights", "topic=1,riv=1,0,0"), "--weights: there is no history here"),
        (("--levels", "line=1"), "--levels: no block 'line'; the blocks are document, paragraph"),
        (("--protocols", "magic"), "no protocol 'magic'"),
    ],
)
def test_wrong_settings_are_said_and_nothing_is_measured(command, arguments, message, capsys):
    assert command(*arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_document_is_named(command, tmp_path, caplog):
    path = tmp_path / "data" / "corpus.jsonl"
    path.write_text(path.read_text() + '\n{"_id": "d9", "text": " "}')
    assert command("--protocols", "single-vector") == 0
    assert "corpus.jsonl: documents with neither title nor text, " in caplog.text
    assert "1 ('d9')" in caplog.text
