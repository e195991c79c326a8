"""MaxSim is its double loop, the best chunk its single one; pooling keeps every token."""

import numpy as np
import pytest

from subspace.bench import late_interaction
from subspace.bench.late_interaction import MultiVectors, max_sim, pool_tokens
from subspace.bench.readings import StoredVectors
from subspace.blocks import unit
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder


def make_vectors(counts: list[int], *, seed: int, dim: int = 6) -> MultiVectors:
    rng = np.random.default_rng(seed)
    vectors = [unit(rng.normal(size=(n, dim)).astype(np.float32)) for n in counts]
    return MultiVectors.join(vectors)


def split(items: MultiVectors) -> list[np.ndarray]:
    return np.split(items.vectors, np.cumsum(items.counts)[:-1])


@pytest.mark.parametrize("scores_at_once", [1, 30, 1 << 20])
@pytest.mark.parametrize("best", [1, 2, 3])
@pytest.mark.parametrize("queries", [[1, 1, 1], [3, 1, 4]])
def test_max_sim_is_the_double_loop(scores_at_once, best, queries, monkeypatch):
    monkeypatch.setattr(late_interaction, "_SCORES", scores_at_once)
    asked, kept = make_vectors(queries, seed=0), make_vectors([2, 1, 5, 3], seed=1)
    found = max_sim(asked, kept, best=best)
    assert found.shape == (3, 4)
    for row, query in enumerate(split(asked)):
        for column, item in enumerate(split(kept)):
            total = 0.0
            for token in query:
                matches = sorted((float(token @ vector) for vector in item), reverse=True)
                total += sum(matches[:best]) / len(matches[:best])
            assert found[row, column] == pytest.approx(total, abs=1e-5)


def test_with_one_vector_each_it_is_the_cosine_and_with_more_it_is_not():
    asked, kept = make_vectors([1] * 4, seed=0), make_vectors([1] * 5, seed=1)
    np.testing.assert_allclose(max_sim(asked, kept), asked.vectors @ kept.vectors.T, atol=1e-6)
    paired = MultiVectors(kept.vectors[:4], np.array([2, 2]))
    assert (max_sim(asked, paired) >= (asked.vectors @ kept.vectors[:4:2].T) - 1e-6).all()
    assert (max_sim(asked, paired) > (asked.vectors @ kept.vectors[:4:2].T) + 1e-3).any()


@pytest.mark.parametrize("counts", [[0, 3], [1, 1], [4]])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match="do not fit 3 vectors"):
        MultiVectors(np.ones((3, 2), np.float32), np.array(counts))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
def test_pooling_gives_every_factor_th_unit_vector(tokens, factor):
    states = make_vectors([tokens], seed=2).vectors
    pooled = pool_tokens(states, factor=factor)
    assert pooled.shape == (max(1, tokens // factor), 6)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)
    if factor == 1:
        np.testing.assert_array_equal(pooled, states)


def test_pooling_puts_alike_tokens_together_and_loses_none():
    """Three directions, many noisy copies: each pooled vector is the unit mean of one's copies."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, size=24)
    label[:3] = 0, 1, 2
    states = unit(np.eye(3)[label] + 0.05 * rng.normal(size=(24, 3))).astype(np.float32)
    pooled = pool_tokens(states, factor=8)
    means = unit(np.stack([states[label == n].sum(axis=0) for n in range(3)]))
    order = (pooled @ means.T).argmax(axis=1)
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(pooled, means[order], atol=1e-5)


TEXTS = ["a dog", "The quick brown fox jumps over the lazy dog, twice.", "x", "one two three " * 7]


@pytest.fixture(params=["minilm", "tiny Qwen3"])
def encoder(request, tiny_qwen) -> Encoder:
    model = "minilm" if request.param == "minilm" else str(tiny_qwen)
    return Encoder(EncoderSpec(model=model, max_length=32, device="cpu"))


@pytest.mark.parametrize("kind", ["document", "query"])
def test_token_states_are_those_of_the_text_alone(encoder, kind):
    """Compared with the model run text by text, without padding; special tokens by position."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    found = encoder.encode_tokens(TEXTS, kind=kind)
    folder, prompt = encoder._files.folder, encoder.prompt(kind)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    skip = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    for text, states in zip(TEXTS, found, strict=True):
        tokens = tokenizer(prompt + text, return_tensors="pt", truncation=True, max_length=32)
        with torch.inference_mode():
            alone = unit(model(**tokens).last_hidden_state[0].numpy())
        start = skip + (tokenizer.cls_token is not None)
        wanted = alone[start:-1]
        if len(wanted) == 0:  # the prompt leaves no room: all that was read stays
            wanted = alone
        np.testing.assert_allclose(states, wanted, atol=1e-5)


def test_the_mean_of_all_states_is_no_longer_the_text_vector_but_near_it():
    encoder = Encoder(EncoderSpec(model="minilm", device="cpu"))
    text = [TEXTS[1]]
    mean = unit(encoder.encode_tokens(text)[0].mean(axis=0))
    assert 0.8 < float(mean @ encoder.encode(text)[0]) < 0.9999


def test_a_text_with_only_special_tokens_keeps_them():
    encoder = Encoder(EncoderSpec(model="minilm", device="cpu"))
    states = encoder.encode_tokens(["\u200b", "a dog"])  # a blank of no width: no token
    assert states[0].shape == (2, 384)
    assert states[1].shape == (2, 384)


def test_tokens_beyond_the_longest_are_cut_and_counted():
    encoder = Encoder(EncoderSpec(model="minilm", max_length=8, device="cpu"))
    assert encoder.encode_tokens(["one two three " * 7, "a"])[0].shape == (6, 384)
    assert encoder.truncated == 1


def test_a_word_that_the_tokenizer_does_not_know_is_text():
    encoder = Encoder(EncoderSpec(model="minilm", device="cpu"))
    states = encoder.encode_tokens(["\U0001f642 hello", "hello"])
    assert [len(one) for one in states] == [2, 1]


def test_texts_that_were_cut_for_token_vectors_are_reported_once(tmp_path, caplog):
    encoder = CachedEncoder.open(EncoderSpec(model="minilm", max_length=8), root=tmp_path)
    StoredVectors(encoder).encode_tokens(["one two three " * 7])
    assert "1 texts are longer than the encoder's 8 tokens" in caplog.text
    caplog.clear()
    encoder.encode(["short"])
    assert not caplog.text
