"""Packed texts get the states that they get alone, and a shared beginning changes none of them."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.encoder import Encoder, EncoderSpec, model_files, packing, precision
from subspace.encoder.encoder import _cut_windows
from subspace.encoder.model import FrozenModel
from subspace.encoder.packing import Packing, PackingUnsupportedError, _attend, find_runs
from subspace.encoder.pooling import POOLINGS
from subspace.encoder.precision import choose_dtype, has_bfloat16
from subspace.encoder.tokens import Tokenizer, common_beginning, cut_batches, load_tokenizer
from subspace.errors import EncoderError

LENGTHS = [9, 5, 5, 2, 1, 1]


def ids_of(lengths: list[int], *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 250, size=length) for length in lengths]


def run(model: FrozenModel, texts: list[np.ndarray], **options) -> np.ndarray:
    (found,) = model.run(texts, layers=[model.depth], reduce=lambda _, states: states, **options)
    return found.numpy()


@pytest.fixture(scope="module", params=["tiny Qwen3", "MiniLM"])
def model(request, tiny_qwen) -> FrozenModel:
    minilm = model_files.locate_model("minilm", revision=None).folder
    folder = {"tiny Qwen3": tiny_qwen, "MiniLM": minilm}[request.param]
    return FrozenModel(folder, dtype="float32", device="cpu")


def test_packed_texts_get_the_states_that_they_get_alone(model):
    assert model.packs
    texts = ids_of(LENGTHS)
    together = run(model, texts)
    alone = np.concatenate([run(model, [one]) for one in texts])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    # Counter-check: as one text the same tokens have other states.
    assert np.abs(run(model, [np.concatenate(texts)]) - alone).max() > 0.01


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_attention_equals_a_slow_loop(causal, heads):
    """Softmax of scaled products token by token, each text by itself; grouped heads share keys."""
    torch.manual_seed(0)
    many, few = heads
    total = sum(LENGTHS)
    query = torch.randn(1, many, total, 8, dtype=torch.float64)
    key, value = (torch.randn(1, few, total, 8, dtype=torch.float64) for _ in range(2))
    module = torch.nn.Module()
    found, _ = _attend(
        module, query, key, value, None,
        packing=Packing(runs=find_runs(LENGTHS)), scaling=0.3, is_causal=causal,
    )  # fmt: skip
    wanted, start = torch.zeros(total, many, 8, dtype=torch.float64), 0
    for length in LENGTHS:
        for token in range(start, start + length):
            seen = range(start, token + 1 if causal else start + length)
            for head in range(many):
                group = head * few // many
                weights = torch.stack(
                    [0.3 * query[0, head, token] @ key[0, group, other] for other in seen]
                ).softmax(dim=0)
                wanted[token, head] = sum(
                    weight * value[0, group, other]
                    for weight, other in zip(weights, seen, strict=True)
                )
        start += length
    torch.testing.assert_close(found[0], wanted)


def test_a_shared_beginning_changes_no_state(tiny_qwen):
    model = FrozenModel(tiny_qwen, dtype="float32", device="cpu")
    assert model.causal
    (beginning,) = ids_of([12], seed=1)
    rests = ids_of(LENGTHS)
    whole = [np.concatenate([beginning, rest]) for rest in rests]
    states = np.split(run(model, whole), np.cumsum([len(one) for one in whole])[:-1])
    wanted = np.concatenate([one[12:] for one in states])
    found = run(model, rests, beginning=model.begin(beginning))
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    # Counter-check: without it the states are others.
    assert np.abs(run(model, rests) - wanted).max() > 0.01


def test_queries_with_one_instruction_equal_each_by_itself(tiny_qwen, monkeypatch):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen)))
    queries = [f"what do {n} foxes {'jump over ' * (n % 4)}" for n in range(12)]
    begun = []
    begin = FrozenModel.begin
    monkeypatch.setattr(
        FrozenModel, "begin", lambda self, ids: begun.append(len(ids)) or begin(self, ids)
    )
    together = encoder.encode(queries, kind="query")
    assert begun, "the instruction was not shared"
    assert begun[0] > 8
    alone = np.concatenate([encoder.encode([query], kind="query") for query in queries])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_bidirectional_models_share_nothing():
    encoder = Encoder(EncoderSpec(model="minilm", query_prompt="represent this for retrieval: "))
    assert not encoder._model.causal
    assert encoder._torch._share_beginning([np.arange(30) for _ in range(9)], prompt=0) is None


def test_a_model_that_cannot_be_packed_is_padded_and_gives_the_same(tiny_qwen, monkeypatch, caplog):
    texts = ["a dog", "the quick brown fox jumps", "x", "one two three " * 5]
    wanted = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(0, 1, 2))).encode(texts)

    def refuse(*_, **__):
        raise PackingUnsupportedError("its attention has sliding_window")

    monkeypatch.setattr("subspace.encoder.packing._attend_run", refuse)
    padded = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(0, 1, 2)))
    with caplog.at_level(logging.INFO):
        found = padded.encode(texts)
    assert not padded._model.packs
    assert "sliding_window" in caplog.text
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_model_whose_packed_states_differ_is_padded(tiny_qwen, monkeypatch):
    honest = packing._attend_run
    monkeypatch.setattr(packing, "_attend_run", lambda *a, **k: -honest(*a, **k))
    assert not FrozenModel(tiny_qwen, dtype="float32", device="cpu").packs


@pytest.mark.parametrize("option", ["sliding_window", "softcap"])
def test_attention_that_sees_less_is_refused(option):
    states = torch.randn(1, 1, 3, 4)
    with pytest.raises(PackingUnsupportedError, match=option):
        _attend(
            torch.nn.Module(), states, states, states, None,
            packing=Packing(runs=find_runs([3])), **{option: 2},
        )  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 100))
def test_batches_hold_every_text_once_and_no_more_tokens_than_asked_for(lengths, most):
    batches = list(cut_batches(lengths, most=most))
    assert sorted(np.concatenate([[], *batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[position] for position in batch]
        assert sum(sizes) <= most or len(sizes) == 1
        assert sizes == sorted(sizes, reverse=True)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6))
def test_the_common_beginning_is_the_longest_that_leaves_every_text_a_token(texts):
    found = common_beginning([np.array(text) for text in texts])
    longest = min(map(len, texts)) - 1
    wanted = 0
    while wanted < longest and len({tuple(text[: wanted + 1]) for text in texts}) == 1:
        wanted += 1
    assert found == wanted


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), max_size=30))
def test_runs_are_the_lengths_again(lengths):
    runs = find_runs(lengths)
    assert [length for _, count, length in runs for _ in range(count)] == lengths
    assert [start for start, _, _ in runs] == [
        sum(count * length for _, count, length in runs[:place]) for place in range(len(runs))
    ]


def test_auto_takes_bfloat16_only_where_vectors_stay(monkeypatch):
    folder = model_files.locate_model("minilm", revision=None).folder
    tokenizer = Tokenizer(load_tokenizer(folder), max_length=64, lowercase=False)
    choose = {"tokenizer": tokenizer, "device": "cpu", "pool": POOLINGS["mean"]}
    monkeypatch.setattr("subspace.encoder.precision.has_bfloat16", lambda device: True)
    assert choose_dtype(folder, **choose) == "bfloat16"
    monkeypatch.setitem(precision.AGREEMENT, "bfloat16", 1.1)
    assert choose_dtype(folder, **choose) == "float32"
    monkeypatch.setattr("subspace.encoder.precision.has_bfloat16", lambda device: False)
    assert choose_dtype(folder, **choose) == "float32"


def test_auto_is_written_down_as_what_it_became(tiny_qwen: Path):
    fingerprint = Encoder(EncoderSpec(model=str(tiny_qwen), dtype="auto")).fingerprint
    assert fingerprint.dtype in ("float32", "bfloat16")
    assert has_bfloat16("cpu") or fingerprint.dtype == "float32"


def make_model(folder: Path, kind: str, **changes) -> Path:
    """A tiny model of another architecture, with random weights."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    small = {
        "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 128, "pad_token_id": 0,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **(small | changes))
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


DECODER = {"num_key_value_heads": 1, "head_dim": 16}


@pytest.mark.parametrize(
    ("kind", "changes", "packs", "alone"),
    [
        ("bert", {}, True, False),
        ("roberta", {}, True, False),
        ("xlm-roberta", {}, True, False),
        ("llama", DECODER, True, False),
        ("mpnet", {}, False, False),
        ("mistral", DECODER | {"sliding_window": 16}, False, False),
        ("mistral", DECODER | {"sliding_window": 4096}, True, False),
        ("phimoe", {"num_key_value_heads": 1, "sliding_window": 16}, False, False),
        ("fnet", {}, False, True),
    ],
)
def test_every_architecture_gives_the_states_of_its_texts_alone(
    kind, changes, packs, alone, tmp_path
):
    """Packed, padded or one by one: also for texts longer than a window of sight."""
    model = FrozenModel(make_model(tmp_path, kind, **changes), dtype="float32", device="cpu")
    assert (model.packs, model.alone) == (packs, alone)
    texts = ids_of([60, 25, 25, 3])
    batches = [[one] for one in texts] if alone else [texts]
    together = np.concatenate([run(model, batch) for batch in batches])
    usual = model._model
    usual.set_attn_implementation("eager" if kind != "fnet" else usual.config._attn_implementation)
    with torch.inference_mode():
        wanted = [
            usual(input_ids=torch.from_numpy(one)[None]).last_hidden_state[0] for one in texts
        ]
    np.testing.assert_allclose(together, torch.cat(wanted).numpy(), atol=2e-4)


def test_padded_batches_count_the_padding():
    lengths = [1500, *[12] * 200]
    for batch in cut_batches(lengths, most=2000, padded=True):
        assert len(batch) * max(lengths[place] for place in batch) <= 2000
    assert len(next(cut_batches(lengths, most=2000))) > 40, "packed ones do not"


def test_weights_that_lack_a_layer_are_refused_and_not_made_up(tiny_qwen, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "cut"
    shutil.copytree(tiny_qwen, folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if ".1.mlp.up_proj" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 1 tensors .* layers\.1\.mlp\.up_proj"):
        FrozenModel(folder, dtype="float32", device="cpu")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EncoderError, match="no readable model"):
        FrozenModel(folder, dtype="float32", device="cpu")


def test_two_threads_get_what_one_gets(tiny_qwen):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(0, 1, 2)))
    texts = [[f"text {n} of {who} " * (n % 5 + 1) for n in range(40)] for who in ("one", "two")]
    wanted = [encoder.encode(part) for part in texts]
    with ThreadPoolExecutor(2) as both:
        for _ in range(3):
            for found, expected in zip(both.map(encoder.encode, texts), wanted, strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-5)


def test_windows_are_bounded_by_texts_and_by_characters(monkeypatch):
    monkeypatch.setattr("subspace.encoder.encoder._WINDOW", 3)
    monkeypatch.setattr("subspace.encoder.encoder._WINDOW_CHARACTERS", 10)
    texts = ["a", "b", "c", "d", "e" * 30, "f" * 4, "g" * 6, "h"]
    windows = [(w.start, w.stop) for w in _cut_windows(texts)]
    assert windows == [(0, 3), (3, 4), (4, 5), (5, 7), (7, 8)]
    assert _cut_windows([]) == []
