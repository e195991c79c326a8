"""MTEB runs its own tasks, built here of a few texts, on blocks and on weights."""

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from models import with_queries
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.models_protocols import EncoderProtocol
from scipy.stats import spearmanr

from subspace.data.records import Record
from subspace.errors import ConfigError, WeightsError
from subspace.integrations.mteb import BlockEncoder
from subspace.retrieval import Index

PAIRS = [
    ("a dog barks at night", "dogs bark loudly", 4.5),
    ("the loaf is in the oven", "bread bakes slowly", 3.0),
    ("he ran the race", "the taxpayer shall file a return", 0.5),
    ("she won the match", "the final was hers", 3.5),
    ("sow the seeds in spring", "a planet has a moon", 1.0),
    ("tax is due in April", "returns are filed in April", 4.0),
]
CORPUS = {f"d{at}": text for at, (text, _, _) in enumerate(PAIRS)}
QUERIES = {f"q{at}": text for at, (_, text, _) in enumerate(PAIRS)}


def metadata(**own) -> TaskMetadata:
    return TaskMetadata(
        description="A few texts.",
        reference="https://example.org",
        dataset={"path": "NA", "revision": "NA"},
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-01"),
        dialect=[],
        domains=[],
        task_subtypes=[],
        license="cc-by-4.0",
        annotations_creators="derived",
        modalities=["text"],
        sample_creation="created",
        bibtex_citation="",
        **own,
    )


class FewPairs(AbsTaskSTS):
    metadata = metadata(type="STS", name="FewPairs", main_score="cosine_spearman")

    def load_data(self, num_proc=None, **kwargs) -> None:
        one, other, score = map(list, zip(*PAIRS, strict=True))
        table = Dataset.from_dict({"sentence1": one, "sentence2": other, "score": score})
        self.dataset, self.data_loaded = DatasetDict(test=table), True


class FewTexts(AbsTaskRetrieval):
    metadata = metadata(type="Retrieval", name="FewTexts", main_score="ndcg_at_10")

    def load_data(self, num_proc=None, **kwargs) -> None:
        split = RetrievalSplitData(
            queries=Dataset.from_list([{"id": i, "text": text} for i, text in QUERIES.items()]),
            corpus=Dataset.from_list(
                [{"id": i, "text": text, "title": ""} for i, text in CORPUS.items()]
            ),
            relevant_docs={query: {query.replace("q", "d"): 1} for query in QUERIES},
            top_ranked=None,
        )
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


class FewClasses(AbsTaskClassification):
    metadata = metadata(type="Classification", name="FewClasses", main_score="accuracy")
    n_experiments = 2
    samples_per_label = 4

    def load_data(self, num_proc=None, **kwargs) -> None:
        texts = [text for one, other, _ in PAIRS for text in (one, f"WOW {other.upper()}!!!")]
        table = Dataset.from_dict({"text": texts, "label": [0, 1] * len(PAIRS)})
        self.dataset, self.data_loaded = DatasetDict(train=table, test=table), True


def evaluate(encoder: BlockEncoder, task) -> dict:
    results = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)
    (result,) = results.task_results
    return result.scores["test"][0]


def run(encoder, texts, **options) -> np.ndarray:
    settings = {"task_metadata": FewPairs.metadata, "hf_split": "test", "hf_subset": "default"}
    return encoder.encode([{"text": list(texts)}], **settings, **options)


def test_it_follows_the_protocol_of_encoders(fitted):
    assert isinstance(BlockEncoder(fitted), EncoderProtocol)


@pytest.mark.parametrize("block", ["topic", "style"])
def test_similarity_of_texts_is_the_cosine_in_the_chosen_block(fitted, block):
    scores = evaluate(BlockEncoder(fitted, weights=f"{block}=1"), FewPairs())
    one, other = (fitted.encode_document([pair[side] for pair in PAIRS])[block] for side in (0, 1))
    wanted = spearmanr((one * other).sum(axis=1), [pair[2] for pair in PAIRS]).statistic
    assert scores["main_score"] == pytest.approx(wanted)


@pytest.mark.parametrize("weights", [None, {"topic": 1.0, "style": 0.5}])
def test_retrieval_ranks_as_an_index_does(fitted, weights, tmp_path):
    model = fitted.changed(score_spreads={"topic": 0.1, "style": 0.3, "complexity": 0.2})
    found = evaluate(BlockEncoder(model, weights=weights), FewTexts())
    gains = []
    with Index.create(tmp_path / "index", model) as index:  # not centred on the texts
        index.add([Record(id=i, text=text) for i, text in CORPUS.items()])
        for query, text in QUERIES.items():
            ids = [hit.id for hit in index.search(text, weights=weights, k=len(CORPUS))]
            gains.append(1 / np.log2(2 + ids.index(query.replace("q", "d"))))
    assert found["main_score"] == pytest.approx(np.mean(gains), abs=1e-4)  # MTEB rounds


def test_a_classifier_learns_from_the_vectors(fitted):
    scores = evaluate(BlockEncoder(fitted, weights={"style": 1.0}), FewClasses())
    assert 0.5 < scores["main_score"] <= 1


def test_the_cosine_is_the_weighted_mean_of_the_blocks_cosines(fitted):
    model = fitted.changed(score_spreads={"topic": 0.1, "style": 0.2, "complexity": 0.2})
    vectors = run(BlockEncoder(model, weights={"topic": 1.0, "style": 2.0}), CORPUS.values())
    blocks = model.encode_document(list(CORPUS.values()))
    # A weight counts in standard deviations: 2 of the style is as much as 1 of the topic.
    wanted = (blocks["topic"] @ blocks["topic"].T + blocks["style"] @ blocks["style"].T) / 2
    np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_queries_have_their_own_matrix_and_prompt(fitted):
    encoder = BlockEncoder(with_queries(fitted), weights="topic=1")
    queries = encoder.model.encode_query(list(QUERIES.values()))["topic"]
    asked = run(encoder, QUERIES.values(), prompt_type=mteb.types.PromptType.query)
    np.testing.assert_allclose(asked, queries, atol=1e-6)
    assert np.abs(run(encoder, QUERIES.values()) - queries).max() > 0.1


def test_an_empty_text_is_like_nothing(fitted):
    vectors = run(BlockEncoder(fitted), ["", "a dog", "  "])
    assert not vectors[[0, 2]].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[1]), 1, atol=1e-6)


def test_results_of_other_weights_and_models_are_stored_apart(fitted, tmp_path):
    fitted.save(tmp_path / "mine")
    one = BlockEncoder(tmp_path / "mine").mteb_model_meta
    other = BlockEncoder(str(tmp_path / "mine"), weights="style=1").mteb_model_meta
    moved = BlockEncoder(with_queries(fitted)).mteb_model_meta
    assert one.name == "subspace/mine"
    assert one.revision == other.revision != moved.revision
    assert other.experiment_name == "style_1.0"
    assert one.experiment_name != other.experiment_name
    assert one.embed_dim == 14
    assert other.embed_dim == 4
    assert BlockEncoder(fitted, name="me/mine").mteb_model_meta.name == "me/mine"


def test_what_cannot_be_done_is_refused(fitted, tmp_path):
    with pytest.raises(WeightsError, match="colour"):
        BlockEncoder(fitted, weights={"colour": 1.0})
    with pytest.raises(WeightsError, match="no usage log goes with a benchmark"):
        BlockEncoder(fitted, weights="preset=balanced")
    with pytest.raises(ConfigError, match="unknown options: batch"):
        BlockEncoder(fitted, batch=3)
    with pytest.raises(ConfigError, match="model must be of type"):
        BlockEncoder(3)
    with pytest.raises(ConfigError, match="precision must be float32, got 'int8'"):
        run(BlockEncoder(fitted), ["a"], precision="int8")
    with pytest.raises(ConfigError, match="reads texts alone, got image"):
        BlockEncoder(fitted).encode([{"image": []}], task_metadata=None, hf_split="", hf_subset="")
