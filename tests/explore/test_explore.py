"""What the page shows is what a search says, read from the same parts."""

import json
import socket
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from test_searcher import CHECKPOINT, OTHER, QUERY, TEXTS, ids
from worlds import PLANTED, RAW, cut, embedded, make_labels

from subspace.blocks import BlockLayout
from subspace.cli import main
from subspace.data.retrieval_sets import Document
from subspace.encoder import Encoder
from subspace.errors import ConfigError, IndexFolderError
from subspace.evaluation import IN_CORPUS, measure_report, write_report
from subspace.explore.app import Explored, make_app
from subspace.explore.colours import colour
from subspace.explore.figures import heat_map, scatter
from subspace.explore.maps import make_maps, map_block
from subspace.explore.rankings import show_ranking
from subspace.explore.separation_heat_maps import read_matrices
from subspace.explore.server import bind
from subspace.explore.session import Question, Ranking, Session
from subspace.model import load_checkpoint
from subspace.model.projection import digest_projection
from subspace.retrieval import PRESETS, BlockIndex, Hit, Results, Searcher, UsageLog, Weights
from subspace.retrieval.engines import NumpyEngine

LAYOUT = load_checkpoint(CHECKPOINT).projection.layout
STYLE = Weights.make(layout=LAYOUT, blocks={"style": 0.3, "residual": 0.1})
SMALL = BlockLayout.from_widths({"topic": 3, "style": 1})
MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(load_checkpoint(CHECKPOINT).encoder_spec())


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory) -> Path:
    """The saved index of all texts, each with a label."""
    documents = [
        Document(id=name, text=text, metadata={"style": "loud" if "!!!" in text else "calm"})
        for name, text in TEXTS.items()
    ]
    folder = tmp_path_factory.mktemp("explore") / "index"
    projection = load_checkpoint(CHECKPOINT).projection
    embeddings = encoder.encode(list(TEXTS.values()))
    BlockIndex.build(documents, embeddings, projection=projection).engine.save(folder)
    return folder


@pytest.fixture
def session(encoder, folder, tmp_path):
    """With a usage log, which only the thread that opened it can read."""
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        log.add({"tennis": 1.0, "tax": 0.0}.items())

    def open_searcher() -> Searcher:
        index = BlockIndex.open(folder, usage=UsageLog.open(tmp_path / "usage.db"))
        return Searcher(load_checkpoint(CHECKPOINT), index, encoder=encoder)

    with Session(open_searcher) as session:
        yield session


@pytest.mark.parametrize("scope", ["block", "item"])
@pytest.mark.parametrize(
    ("question", "query"),
    [
        (Question(QUERY), QUERY),
        (Question(" ", OTHER, "style"), {"style": OTHER}),
        (
            Question(QUERY, OTHER, "style"),
            {name: OTHER if name == "style" else QUERY for name in LAYOUT},
        ),
    ],
    ids=["text", "style alone", "both"],
)
def test_a_ranking_is_a_search(session, question, query, scope):
    weights = Weights.make(layout=LAYOUT, blocks={"style": 1, "topic": 0.2}, preset="balanced")
    options = {"weights": weights, "scope": scope}
    ranking, equal = session.rank(question, **options), session.rank(question)

    def search(**options) -> Results:
        return session.run(lambda: session.searcher.search(query, k=100, **options))

    assert ranking.found.hits == search(**options).hits
    assert equal.found.hits == search().hits
    assert ids(ranking.found) != ids(equal.found)
    assert ranking.ranks()[ranking.found[2].id] == 3


def test_other_weights_encode_nothing(session):
    first = session.rank(Question(QUERY), weights=STYLE, standardize=True)
    session.searcher._encoder = None
    assert ids(session.rank(Question(QUERY)).found) != ids(first.found)
    with pytest.raises(AttributeError):
        session.rank(Question(OTHER))


@pytest.mark.parametrize("preset", [None, "balanced"])
def test_the_average_text_scores_what_all_score_on_average(session, preset):
    weights = Weights.make(layout=LAYOUT, blocks={"style": 0.3, "residual": 1}, preset=preset)
    ranking = session.rank(Question(QUERY), weights=weights)
    assert len(ranking.found) == len(TEXTS)
    mean = np.mean([hit.score for hit in ranking.found])
    assert ranking.average.score == pytest.approx(mean, abs=1e-6)
    assert ranking.average.score < ranking.found[0].score


def test_nothing_typed_is_no_question(session):
    assert session.rank(Question("  ", "\n", "style")) is None


# What is drawn.


def a_hit(name: str, *, topic: float, style: float = 0.0, text: str = "text") -> Hit:
    nothing = {"recency": 0.0, "importance": 0.0}
    parts = {
        "topic": {**nothing, "relevance": topic},
        "style": {**nothing, "relevance": style},
    }
    return Hit(id=name, text=text, score=topic + style, parts=parts, metadata={"style": "calm"})


def rows(hits: list[Hit], *, before: dict[str, int] | None = None) -> list[dict]:
    """A ranking as it is sent to the browser."""
    found = Results(tuple(hits), "q", Weights.equal(SMALL), "block")
    ranking = Ranking(found, a_hit("average", topic=0.1, style=0.1))
    shown = show_ranking(ranking, factors=("style",), before=before)
    sent = json.loads(json.dumps(shown, default=lambda part: part.to_plotly_json()))
    return sent["props"]["children"]


def texts_of(component) -> list[str]:
    if isinstance(component, str):
        return [component]
    if isinstance(component, dict):
        return texts_of(component["props"].get("children"))
    return [text for part in component or [] for text in texts_of(part)]


def test_a_row_says_where_a_hit_was_before():
    a, b, c = (a_hit(name, topic=0.5) for name in "abc")
    moved = rows([b, a, c], before={"a": 1, "b": 2})
    assert [texts_of(row)[0] for row in moved] == ["▲1", "▼1", "new"]
    assert [texts_of(row)[0] for row in rows([b, a, c])] == ["b", "a", "c"]


def test_bars_are_what_each_block_has_above_an_average_text():
    """0.3 above and 0.2 below it: the dark line is at two fifths of the bar."""
    (row,) = rows([a_hit("a", topic=0.4, style=-0.1)])
    bar = next(part["props"] for part in row["props"]["children"] if "bar" in str(part["props"]))
    gradient = bar["style"]["background"].split("to right, ")[1]
    stops = [stop.split(" ", 1)[1] for stop in gradient.split(", ")]
    assert stops[1:3] == ["0.00% 40.00%", "40.00% 100.00%"]
    assert gradient.split(", ")[1].startswith(colour(1))  # style, the second block
    assert ") 40.00% 0 / 1px" in bar["style"]["background"]
    assert bar["title"].splitlines()[1] == "style -0.100, -0.200 above average"


def test_markup_stays_text_and_a_text_that_is_missing_is_said():
    marked, silent = rows([a_hit(MARKUP, topic=1, text=MARKUP), a_hit("a", topic=1, text="")])
    assert texts_of(marked).count(MARKUP) == 2  # as a component's text: no browser makes it markup
    assert texts_of(silent)[-1] == "(no text)"
    assert "index is empty" in rows([])


def make_engine(count: int, *, text: str = "text") -> NumpyEngine:
    rng = np.random.default_rng(0)
    engine = NumpyEngine(layout=SMALL, projection_digest="0")
    documents = [
        Document(str(n), text, metadata={"file": f"f{n}", "style": "ab"[n % 2], "year": 1900 + n})
        for n in range(count)
    ]
    engine.upsert(documents, rng.normal(size=(count, SMALL.dim)).astype(np.float32))
    return engine


def test_a_map_is_the_first_two_principal_components():
    x = np.random.default_rng(0).normal(size=(50, 5)) * (1, 2, 3, 4, 5)
    found, pca = map_block(x), PCA(n_components=2)
    np.testing.assert_allclose(np.abs(found.points), np.abs(pca.fit_transform(x)), atol=1e-9)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_)


@pytest.mark.parametrize(
    ("x", "explained"),
    [
        (np.ones((4, 3)), (0, 0)),
        (np.ones((1, 3)), (0, 0)),
        (np.empty((0, 3)), (0, 0)),
        (np.arange(4.0)[:, None], (1, 0)),
    ],
    ids=["all alike", "one text", "no text", "one dimension"],
)
def test_a_map_of_next_to_nothing_is_a_map(x, explained):
    found = map_block(x)
    assert found.points.shape == (len(x), 2)
    assert found.explained == pytest.approx(explained)


def test_labels_come_from_the_index_those_of_blocks_first_and_none_that_are_names():
    maps = make_maps(make_engine(2100))
    assert (maps.count, len(maps.documents)) == (2100, 2000)
    assert list(maps.labels) == ["style", "year"]
    assert set(maps.labels["style"]) == {"a", "b"}


def test_labels_that_are_given_take_their_place():
    labelled = [
        Document("1", "text", {"mood": "glad"}),
        Document("elsewhere", "text", {"mood": ""}),
    ]
    assert make_maps(make_engine(3), labelled=labelled).labels == {"mood": (None, "glad", None)}
    with pytest.raises(ConfigError, match="labels for none of the texts"):
        make_maps(make_engine(3), labelled=labelled[1:])


def test_a_damaged_vector_is_said_before_the_page_opens():
    engine = make_engine(3)
    engine._buffer[1, 0] = np.nan
    with pytest.raises(IndexFolderError, match="build it again"):
        make_maps(engine)


def test_points_are_coloured_by_their_label_and_texts_are_no_markup():
    maps = make_maps(make_engine(6, text=MARKUP))
    style = scatter(maps, label="style")
    assert [(trace.name, len(trace.x)) for trace in style.data] == [("a", 3), ("b", 3)] * 2
    assert "&lt;b&gt;bold" in style.data[0].hovertext[0]
    assert "<b>" not in style.data[0].hovertext[0]
    assert scatter(maps, label="year").data[0].marker.color == (1900, *range(1901, 1906))
    assert len(scatter(maps, label=None).data) == 2
    assert "axes hold 100% and 0%" in style.layout.annotations[1].text


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    labels = make_labels(source="known")
    checkpoint = load_checkpoint(CHECKPOINT)
    digest = digest_projection(checkpoint.projection)
    about = {"checkpoint": checkpoint.manifest(), "projection": digest}
    measured = measure_report(
        cut(PLANTED),
        sources={"known": embedded(labels)},
        raw=RAW,
        seen=["known"],
        about=about,
        seeds=1,
    )
    write_report(measured, folder=folder)
    return folder


def test_the_heat_map_is_the_matrix_of_the_report(report):
    matrices = read_matrices(report, checkpoint=load_checkpoint(CHECKPOINT))
    assert (matrices[0].model, matrices[0].probe) == (IN_CORPUS, "linear")
    (trace,) = heat_map(matrices, probe="linear").data
    assert tuple(map(tuple, trace.z)) == matrices[0].values
    assert trace.z[0][0] > 0.8 > 0.3 > trace.z[0][1]  # the planted block holds its own factor


def test_a_report_of_another_checkpoint_or_none_is_refused(report, tmp_path):
    checkpoint = load_checkpoint(CHECKPOINT)
    with pytest.raises(ConfigError, match=r"of another checkpoint \(data differ"):
        read_matrices(report, checkpoint=replace(checkpoint, data_sha256={"other": "sources"}))
    moved = replace(checkpoint.projection, mean=checkpoint.projection.mean + 1)
    with pytest.raises(ConfigError, match=r"of another checkpoint \(tensors differ"):
        read_matrices(report, checkpoint=replace(checkpoint, projection=moved))
    with pytest.raises(ConfigError, match="`subspace probe --output"):
        read_matrices(tmp_path, checkpoint=checkpoint)
    for content in ('{"about": []}', '{"about": {"checkpoint": "text"}, "matrices": [1]}'):
        (tmp_path / "separation.json").write_text(content)
        with pytest.raises(ConfigError, match="no separation report"):
            read_matrices(tmp_path, checkpoint=checkpoint)


# What is served, and to whom.


def test_a_port_in_use_gives_the_next_and_only_this_machine_is_answered():
    with closing(bind(18050)) as first, closing(bind(first.getsockname()[1])) as second:
        assert second.getsockname()[1] > first.getsockname()[1]
        assert {first.getsockname()[0], second.getsockname()[0]} == {"127.0.0.1"}


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigError, match="between 1 and 65535"):
        bind(port)


def test_ports_that_are_all_in_use_are_said():
    with socket.socket() as last:
        last.bind(("127.0.0.1", 65535))
        last.listen()
        with pytest.raises(ConfigError, match="all in use"):
            bind(65535)


def test_a_page_by_another_name_gets_nothing_and_the_browser_may_load_nothing_else(session):
    maps = session.run(lambda: make_maps(session.searcher.index.engine))
    app = make_app(Explored(session=session, maps=maps, matrices=None, name="minilm"))
    client = app.server.test_client()
    answer = client.get("/", headers={"Host": "127.0.0.1:8050"})
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    layout = client.get("/_dash-layout", headers={"Host": "localhost"}).text
    assert all(name in layout for name in (*PRESETS, *LAYOUT))


def test_without_dash_the_extra_to_install_is_said(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dash", None)
    monkeypatch.delitem(sys.modules, "subspace.explore.app")
    assert main(["explore", "--checkpoint", str(CHECKPOINT), "--index", str(folder)]) == 2
    assert "pip install 'subspace[explore]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "nowhere"], "nowhere"),
        (["--index", "INDEX", "--checkpoint", "nowhere"], "nowhere"),
        (["--index", "INDEX", "--report", "nowhere"], "--report: cannot read nowhere"),
        (["--index", "INDEX", "--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--index", "INDEX", "--usage", "nowhere.db"], "nowhere.db"),
        (["--index", "INDEX", "--port", "0"], "between 1 and 65535"),
        (["--index", "OTHER"], "another checkpoint"),
    ],
)
def test_what_is_wrong_is_said_before_the_page_opens(options, message, folder, tmp_path, capsys):
    engine = make_engine(3)
    engine.save(tmp_path / "other")
    names = {"INDEX": str(folder), "OTHER": str(tmp_path / "other")}
    options = [names.get(option, option) for option in options]
    assert main(["explore", "--checkpoint", str(CHECKPOINT), *options]) == 2
    assert message in capsys.readouterr().err
