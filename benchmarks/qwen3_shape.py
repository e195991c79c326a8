"""A model folder of the shape of Qwen3-Embedding, random weights, with a tokenizer of its kind.

Weights do not change what a forward pass costs, so this measures where they are not to be had.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QUERY_PROMPT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)
# Hidden size, width of the MLP, layers, attention heads: the authors' config.json of each size.
SIZES = {"0.6B": (1024, 3072, 28, 16), "4B": (2560, 9728, 36, 32), "8B": (4096, 12288, 36, 32)}


def write_model(
    folder: Path, *, size: str, texts: Sequence[str], layers: int | None = None
) -> None:
    """Writes the folder.

    Args:
        folder: Where to.
        size: One of SIZES.
        texts: What the tokenizer (byte-level BPE, 30,000 tokens) is trained on.
        layers: Fewer than the model has, to measure what does not depend on them.
    """
    import torch
    from transformers import Qwen3Config, Qwen3Model

    hidden, wide, depth, heads = SIZES[size]
    config = Qwen3Config(
        vocab_size=151_669,
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers or depth,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen3Model(config).save_pretrained(folder)
    _train_tokenizer(texts).save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write(
        folder / "modules.json",
        [
            {
                "idx": n,
                "name": str(n),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for n, (path, kind) in enumerate(modules)
        ],
    )
    _write(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": hidden,
            "pooling_mode_lasttoken": True,
            "pooling_mode_mean_tokens": False,
            "include_prompt": True,
        },
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": QUERY_PROMPT, "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 32_768, "do_lower_case": False})


def _train_tokenizer(texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=30_000,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=end,
        eos_token=end,
        padding_side="left",
        model_max_length=32_768,
    )


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
