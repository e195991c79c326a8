"""Shared real parts: a tiny Qwen3 as its authors lay it out, and a small labelled folder."""

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

# The suite runs on every core already: threads of linear algebra would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Converting a model takes seconds: tests/encoder/test_backends.py does it, and asks for it.
os.environ.setdefault("SUBSPACE_ENCODER_BACKEND", "torch")

QUERY_PROMPT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)


# Files with servers, browsers, killed processes, the trainer, or pages whose examples run. `make
# quick` leaves them out; otherwise they come first, longest first, so that no worker waits for
# another's.
SLOW = (
    *("test_readme", "test_docs", "test_sharing_page", "test_commands", "test_report"),
    *("test_embed_command", "test_ray_data", "test_separation"),
    *("test_sentence_transformers_export", "test_protocol_run", "test_explore_browser"),
    *("test_faiss_engine", "test_wheel", "test_quickstart", "test_discovery", "test_fit_logging"),
    *("test_riv", "test_reference_checkpoint", "test_fit_command", "test_store_faults"),
    *("test_engine_contract", "test_pgvector_engine", "test_milvus_engine", "test_listing"),
    *("test_vector_stores", "test_packing", "test_backends"),
    *(
        "test_hub",
        "test_language_model",
        "test_module",
        "test_sgd",
        "test_data_module",
        "test_dials",
    ),
)


def pytest_ignore_collect(collection_path, config) -> bool | None:
    """Skips slow files where slow tests are left out: importing what they need takes long."""
    left_out = config.getoption("markexpr") == "not slow" and collection_path.stem in SLOW
    return left_out or None


def pytest_collection_modifyitems(items) -> None:
    """Marks slow tests and brings them to the front."""
    place = {name: number for number, name in enumerate(SLOW)}
    for item in items:
        if item.path.stem in place:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory) -> Path:
    """A folder with a real Qwen3 (random weights, 32 dims, 2 layers) and a real tokenizer."""
    return make_tiny_qwen(tmp_path_factory.mktemp("models") / "tiny-qwen3")


def make_tiny_qwen(folder: Path) -> Path:
    import torch
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _train_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
    )
    Qwen3Model(config).save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write_json(
        folder / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, (path, kind) in enumerate(modules)
        ],
    )
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True, "include_prompt": True},
    )
    _write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": QUERY_PROMPT, "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    return folder


@pytest.fixture(scope="session")
def labelled_folder(tmp_path_factory) -> Path:
    """Three sources: topic and style in parallel groups, complexity, specificity."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = random.Random(0)
    things = {
        "cooking": ("stew", "bread", "soup"),
        "sport": ("ball", "goal", "race"),
        "music": ("song", "drum", "choir"),
    }
    styles = {
        "plain": "I saw a {} today near the {} {}",
        "loud": "WOW what a {} !!! look at the {} {}",
    }
    parallel, graded, detailed = [], [], []
    for number in range(120):
        topic = rng.choice(list(things))
        words = rng.choice(things[topic]), rng.choice(things[topic]), number
        for style, frame in styles.items():
            factors = {"topic": topic, "style": style}
            parallel.append(
                _record(f"{number}-{style}", frame.format(*words), factors, number, group=True)
            )
    for number in range(240):
        topic, level = rng.choice(list(things)), rng.randrange(1, 4)
        part = f"the {rng.choice(things[topic])}{' notwithstanding' if level > 2 else ''} "
        factors = {"topic": topic, "complexity": float(level)}
        graded.append(_record(str(number), part * level + str(number), factors, number))
    for number in range(240):
        detail = 3 * rng.random()
        text = "somebody did something" if detail < 1.5 else "Anna Bell bought 7 pears"
        place = "again" if detail < 0.7 else "in Rome at 5 pm"
        factors = {"specificity": detail}
        detailed.append(_record(str(number), f"{text} {place} {number}", factors, number))
    for name, records in {"parallel": parallel, "graded": graded, "detailed": detailed}.items():
        path = folder / name / "records.jsonl"
        path.parent.mkdir()
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def _record(name: str, text: str, factors: dict, number: int, *, group: bool = False) -> dict:
    return {
        "id": name,
        "text": text,
        "group": f"group-{number}" if group else None,
        "factors": factors,
        "split": ("train", "train", "validation", "test")[number % 4],
    }


def _train_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=end,
        eos_token=end,
        padding_side="left",
        model_max_length=128,
    )


def _write_json(path: Path, value) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
