"""Topics from clusters: what is planted is found, and named by its own words."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from subspace.data.records import Record
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.labelling.clusters import ClustersAnnotator, find_clusters, name_clusters


def test_clusters_find_what_is_planted_and_are_the_same_each_time():
    rng = np.random.default_rng(0)
    topics = rng.integers(0, 4, 600)
    noise = rng.normal(size=(600, 4)).astype(np.float32)
    x = (np.eye(4)[topics] + 0.3 * noise).astype(np.float32)
    codes = find_clusters(x)
    np.testing.assert_array_equal(codes, find_clusters(x))
    assert adjusted_rand_score(topics, codes) > 0.6
    assert abs(adjusted_rand_score(topics, find_clusters(noise))) < 0.05


def test_vectors_that_are_all_the_same_are_one_cluster():
    assert not find_clusters(np.ones((40, 4), np.float32)).any()


def test_clusters_are_named_by_their_own_words():
    texts = ["the stew and the soup", "a soup with salt", "the goal and the ball", "ball game"]
    first, second = name_clusters(texts, np.array([0, 0, 1, 1]))
    assert first.startswith("soup")
    assert second.startswith("ball")
    assert name_clusters(["1 2", "3"], np.array([0, 1])) == ["cluster 0", "cluster 1"]
    names = name_clusters(["same words", "same words"], np.array([0, 1]))
    assert len(set(names)) == 2


def test_texts_get_the_topic_of_their_cluster(tiny_qwen, tmp_path):
    spec = EncoderSpec(model=str(tiny_qwen), layers=(1, 2))
    encoder = CachedEncoder.open(spec, root=tmp_path)
    records = [Record(id=str(n), text=f"text {n % 7} of {n}") for n in range(30)]
    annotator = ClustersAnnotator.fit(records, encoder=encoder)
    every = list(annotator.annotate(records))
    assert every == [{"topic": annotator.topics[record.id]} for record in records]
    assert list(annotator.annotate(records[20:])) == every[20:]
    assert annotator.identity == encoder.encoder.fingerprint.digest
    with pytest.raises(ConfigError, match="20 texts or more"):
        ClustersAnnotator.fit(records[:5], encoder=encoder)
