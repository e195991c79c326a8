"""Weak statistics of a real source: drawn by id, encoded once, the same again."""

import numpy as np
import pytest

from subspace.data.labels import label_source
from subspace.data.records import read_records
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.fitting.moments import collect_statistics
from subspace.fitting.weak.weak_moments import WeakSupervision, add_weak_statistics, draw_rewrites


@pytest.fixture(scope="module")
def source(labelled_folder):
    return read_records([labelled_folder / "parallel"])["parallel"]


@pytest.fixture(scope="module")
def encoder(tiny_qwen, tmp_path_factory):
    spec = EncoderSpec(model=str(tiny_qwen), max_length=64)
    return CachedEncoder.open(spec, root=tmp_path_factory.mktemp("store"))


def test_which_texts_are_drawn_hangs_on_their_ids_alone(source):
    settings = WeakSupervision(rewrites=10)
    drawn = {source[position].id for position, _ in draw_rewrites(source, settings=settings)}
    backwards = source[::-1]
    again = {backwards[position].id for position, _ in draw_rewrites(backwards, settings=settings)}
    assert drawn == again
    assert 0 < len(drawn) <= 10


def test_statistics_gain_measures_and_rewrites_and_keep_the_rest(source, encoder):
    rows = encoder.rows([record.text for record in source])
    plain = collect_statistics(
        encoder.store.vectors, rows=rows, labels=label_source("parallel", source)
    )
    settings = WeakSupervision(measures=True, rewrites=8, rules=3)

    def add():
        return add_weak_statistics(
            plain, records=source, rows=rows, encoder=encoder, settings=settings
        )

    weak, again = add(), add()
    assert weak.factors is plain.factors
    assert weak.measures is not None
    assert weak.measures.cross.shape[0] == encoder.encoder.fingerprint.dim
    assert set(weak.rewrites) == {"style", "complexity", "specificity"}
    for factor, rewrites in weak.rewrites.items():
        assert np.trace(rewrites.second_moment) > 0
        for rule, mean in rewrites.means.items():
            np.testing.assert_array_equal(mean, again.rewrites[factor].means[rule])


def test_nothing_is_added_unless_asked_for(source, encoder):
    rows = encoder.rows([record.text for record in source])
    plain = collect_statistics(
        encoder.store.vectors, rows=rows, labels=label_source("parallel", source)
    )
    same = add_weak_statistics(
        plain, records=source, rows=rows, encoder=encoder, settings=WeakSupervision()
    )
    assert same is plain


@pytest.mark.parametrize("settings", [{"rewrites": -1}, {"rules": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        WeakSupervision(**settings)
