"""ClustersAnnotator: labels texts with topics that are clusters of the raw embedding.

k-means runs on the encoder's last layer, which holds most of the topic. The number of clusters is
the one between 5 and 20 with the highest mean silhouette (Rousseeuw 1987). docs/labels.md compares
the topics with human ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.data.records import Record
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.labelling.annotator import Factors

_FEWEST, _MOST = 5, 20
# Average number of texts per cluster; fewer texts give fewer clusters.
_TEXTS = 10
# Clusters are fitted on a sample, and the silhouette is the mean over a smaller one.
_SAMPLE, _JUDGED = 5000, 2000
_NAME_WORDS = 3
MIN_TEXTS = 2 * _TEXTS


class ClustersAnnotator:
    """Labels texts with the topic of their cluster; see `fit`.

    Attributes:
        topics: Topic of each text by its id.
        identity: Digest of the encoder's fingerprint, which includes its layers.
    """

    origin = "clusters"
    factors = ("topic",)
    cache = None  # the encoder's store keeps the vectors, which determine the clusters

    def __init__(self, topics: Mapping[str, str], *, identity: str) -> None:
        """Keeps topics that were found before; see `fit`."""
        self.topics = topics
        self.identity = identity

    @classmethod
    def fit(
        cls, records: Sequence[Record], *, encoder: CachedEncoder, progress: bool = False
    ) -> Self:
        """Finds the clusters of texts; encodes texts that are not stored yet.

        Args:
            records: All texts to label.
            encoder: The encoder with its store.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: There are fewer than `MIN_TEXTS` texts.
        """
        if len(records) < MIN_TEXTS:
            raise ConfigError(f"clusters need {MIN_TEXTS} texts or more, got {len(records)}")
        texts = [record.text for record in records]
        rows = encoder.rows(texts, progress=progress)
        fingerprint = encoder.encoder.fingerprint
        codes = find_clusters(encoder.store.read(rows)[:, fingerprint.last_layer])
        names = name_clusters(texts, codes)
        topics = {r.id: names[code] for r, code in zip(records, codes.tolist(), strict=True)}
        return cls(topics, identity=fingerprint.digest)

    def annotate(
        self,
        records: Sequence[Record],
        *,
        progress: bool = False,  # noqa: ARG002  # `fit` did the work
    ) -> Iterator[Factors]:
        """Yields the topic of each text, in order.

        Args:
            records: Some of the texts given to `fit`.
            progress: Ignored.
        """
        for record in records:
            yield {"topic": self.topics[record.id]}


def find_clusters(x: Vectors) -> Ints:
    """Clusters vectors; the same vectors always give the same clusters.

    Args:
        x: Float32 (N, D).

    Returns:
        The cluster of each vector (N,), counted from 0.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    drawn = np.random.default_rng(0).permutation(len(x))
    sample, judged = x[drawn[:_SAMPLE]], drawn[:_JUDGED]
    most = min(_MOST, max(2, len(x) // _TEXTS), len(np.unique(sample, axis=0)))
    best, best_score = None, -np.inf
    for count in range(min(_FEWEST, most), most + 1):
        fitted = KMeans(count, n_init=4, random_state=0).fit(sample)
        codes = fitted.predict(x)
        found = len(np.unique(codes[judged]))
        if 1 < found < len(judged):
            score = float(silhouette_score(x[judged], codes[judged]))
            if score > best_score:
                best, best_score = codes, score
    return np.zeros(len(x), np.int64) if best is None else best.astype(np.int64)


def name_clusters(texts: Sequence[str], codes: Ints) -> list[str]:
    """Names each cluster by the words with the largest excess of mean tf-idf over all texts.

    Args:
        texts: N texts.
        codes: The cluster of each text (N,), counted from 0.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_]{3,}\b")
    try:
        table = vectorizer.fit_transform(texts)
    except ValueError:  # no text holds a word
        return [f"cluster {code}" for code in range(codes.max() + 1)]
    words, everywhere = vectorizer.get_feature_names_out(), np.asarray(table.mean(axis=0))[0]
    names: list[str] = []
    for code in range(codes.max() + 1):
        excess = np.asarray(table[codes == code].mean(axis=0))[0] - everywhere
        name = "-".join(words[place] for place in np.argsort(-excess, kind="stable")[:_NAME_WORDS])
        names.append(name if name not in names else f"{name}-{code}")
    return names
