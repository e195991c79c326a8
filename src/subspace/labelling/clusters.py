"""Topics of texts that have none: clusters of the raw embedding, named by their own words.

k-means on the encoder's last layer, which knows most of topics, with the number of clusters between
5 and 20 that the mean silhouette (Rousseeuw 1987) finds best. docs/labels.md compares such topics
with human ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.data.retrieval_sets import Document
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotation

_FEWEST, _MOST = 5, 20
# Texts that a cluster must have on average: with fewer, there are fewer clusters.
_TEXTS = 10
# Texts that clusters are found on, and that a silhouette is taken of; the others are assigned.
_SAMPLE, _JUDGED = 5000, 2000
_NAME_WORDS = 3
MIN_TEXTS = 2 * _TEXTS


@dataclass(frozen=True)
class ClustersAnnotator:
    """Labels texts by the cluster that they lie in; clusters are found before the first label.

    Attributes:
        topics: Topic of each text by its id.
        identity: Digest of the encoder's fingerprint, which says its layers.
    """

    topics: dict[str, str]
    identity: str
    factors: tuple[str, ...] = ("topic",)
    origin: str = "clusters"

    @classmethod
    def fit(
        cls, documents: Sequence[Document], *, encoder: CachedEncoder, progress: bool = False
    ) -> Self:
        """Finds the clusters of some texts; encodes what is not stored.

        Args:
            documents: All texts that are to be labelled.
            encoder: The encoder and its store.
            progress: Shows a bar.

        Raises:
            ConfigError: There are too few texts.
        """
        if len(documents) < MIN_TEXTS:
            raise ConfigError(
                f"clusters need {MIN_TEXTS} texts or more, there are {len(documents)}"
            )
        texts = [document.text for document in documents]
        rows = encoder.rows(texts, progress=progress)
        fingerprint = encoder.encoder.fingerprint
        codes = find_clusters(encoder.store.read(rows)[:, fingerprint.last_layer])
        names = name_clusters(texts, codes)
        topics = {d.id: names[code] for d, code in zip(documents, codes.tolist(), strict=True)}
        return cls(topics, identity=fingerprint.digest)

    def annotate(
        self,
        documents: Sequence[Document],
        *,
        progress: bool = False,  # noqa: ARG002 (done already)
    ) -> Iterator[Annotation]:
        """Yields one annotation per document, in order.

        Args:
            documents: Some of the texts that the clusters are of.
            progress: Nothing to show.
        """
        for document in documents:
            yield Annotation(id=document.id, factors={"topic": self.topics[document.id]})


def find_clusters(x: Vectors) -> Ints:
    """Cluster of each vector (N,), from 0; the same for the same vectors."""
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
    """A name for each cluster: the words that its texts have more of than the others."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d_]{3,}\b")
    try:
        table = vectorizer.fit_transform(texts)
    except ValueError:  # no words at all
        return [f"cluster {code}" for code in range(codes.max() + 1)]
    words, everywhere = vectorizer.get_feature_names_out(), np.asarray(table.mean(axis=0))[0]
    names: list[str] = []
    for code in range(codes.max() + 1):
        own = np.asarray(table[codes == code].mean(axis=0))[0] - everywhere
        name = "-".join(words[place] for place in np.argsort(-own, kind="stable")[:_NAME_WORDS])
        names.append(name if name not in names else f"{name}-{code}")
    return names
