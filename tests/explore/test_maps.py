"""Maps are principal components of what the index keeps, coloured by labels that can be told."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError
from subspace.explore.figures import scatter
from subspace.explore.maps import make_maps, map_block
from subspace.retrieval.engines import NumpyEngine

SMALL = BlockLayout.from_widths({"topic": 3, "style": 1})
MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"


def make_engine(count: int, *, text: str = "text") -> NumpyEngine:
    rng = np.random.default_rng(0)
    engine = NumpyEngine(layout=SMALL, projection_digest="0")
    records = [
        Record(str(n), text, metadata={"file": f"f{n}", "style": "ab"[n % 2], "year": 1900 + n})
        for n in range(count)
    ]
    engine.upsert(records, rng.normal(size=(count, SMALL.dim)).astype(np.float32))
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
        Record("1", "text", factors={"mood": "glad"}, metadata={"page": 3}),
        Record("elsewhere", "text", factors={"mood": "sad"}),
    ]
    maps = make_maps(make_engine(3), labelled=labelled)
    assert maps.labels == {"mood": (None, "glad", None), "page": (None, 3, None)}
    unlabelled = Record("2", "text")
    with pytest.raises(ConfigError, match="labels for none of the texts"):
        make_maps(make_engine(3), labelled=[*labelled[1:], unlabelled])


def test_a_damaged_vector_is_reported_before_the_page_opens():
    engine = make_engine(3)
    engine.vectors[1, 0] = np.nan
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


def test_rare_categories_are_others_and_points_without_a_label_are_named():
    maps = make_maps(make_engine(30), labelled=[
        Record(str(n), "text", factors={"mood": f"mood {n % 14}"}) for n in range(29)
    ])  # fmt: skip
    names = [trace.name for trace in scatter(maps, label="mood").data]
    assert names[:2] == ["no label", "others"]
    assert len(set(names)) == 12
