"""The frozen model: maps token ids of a batch to the states of the requested layers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Ints
from subspace.encoder.model_weights import count_weights, find_layers, load_weights
from subspace.encoder.packing import (
    PACKED,
    Packing,
    PackingUnsupportedError,
    check_sight,
    find_runs,
    register,
)
from subspace.encoder.products import multiply_fast
from subspace.encoder.threads import threads_for

if TYPE_CHECKING:
    from torch import Tensor

# Called with a layer's number and its states (tokens, dim) once they are computed; only its result
# is kept.
Reduce = Callable[[int, "Tensor"], "Tensor"]

_log = logging.getLogger(__name__)

# Architectures whose first position is the padding token's id + 1 (transformers,
# `create_position_ids_from_input_ids`); their longest text is shorter by as many tokens.
OFFSET_POSITIONS = frozenset(
    """camembert data2vec-text ibert longformer luke mpnet roberta roberta-prelayernorm xlm-roberta
    xlm-roberta-xl xmod""".split()  # noqa: SIM905 (a list of words reads best as text)
)
# Smallest cosine at which two ways to compute a state count as equal, by precision.
AGREEMENT = {"float32": 0.9999, "bfloat16": 0.999}
# How many numbers of a layer's widest states fit in a CPU's cache (16 MiB of float32), and how many
# tokens keep a GPU busy.
_CACHED_NUMBERS = 4 * 2**20
_GPU_TOKENS = 16384


@dataclass(frozen=True, eq=False)  # == on tensors gives no single bool
class Beginning:
    """Tokens that all texts of a batch begin with, already run through every layer.

    Attributes:
        length: Number of tokens.
        states: Keys and values by layer, as in `Packing.seen`.
    """

    length: int
    states: dict[int, tuple["Tensor", "Tensor"]]


class FrozenModel:
    """A transformer whose weights never change.

    Attributes:
        packs: Whether texts are packed; otherwise they are padded on the right.
        alone: Whether a batch must hold a single text, since other texts would change its states.
    """

    def __init__(self, folder: Path, *, dtype: str, device: str) -> None:
        """Loads the weights, and tests whether packing or padding changes a text's states.

        Args:
            folder: The model's files.
            dtype: `float32` or `bfloat16`.
            device: A device name of torch.

        Raises:
            EncoderError: The files hold no readable model.
        """
        self._model = load_weights(folder, dtype=dtype).to(device).eval().requires_grad_(False)
        if device == "cpu" and dtype == "float32":
            multiply_fast(self._model)
        self._device = device
        self._depth = int(self._model.config.num_hidden_layers)
        self._blocks = find_layers(self._model, depth=self._depth)
        offset = self._model.config.model_type in OFFSET_POSITIONS
        self._first_position = (self._model.config.pad_token_id or 0) + 1 if offset else 0
        self._lock = RLock()
        self._weights = count_weights(self._model)
        self._cache = {"use_cache": False} if hasattr(self._model.config, "use_cache") else {}
        self.alone = bool(_length_changes_all(self._model.config))
        self.packs = not self.alone and self._try_packing(least=AGREEMENT[dtype])
        if not self.packs and not self.alone:
            self.alone = not self._padding_agrees(least=AGREEMENT[dtype])

    @property
    def causal(self) -> bool:
        """Whether tokens see only earlier tokens, so that texts can share a common beginning."""
        modules = [m for m in self._model.modules() if hasattr(m, "is_causal")]
        return bool(modules) and all(module.is_causal for module in modules)

    @property
    def depth(self) -> int:
        """Number of the last layer; 0 is the token embeddings."""
        return self._depth

    def batch_tokens(self) -> int:
        """Returns the number of tokens per batch with which the device is fastest.

        On a CPU the widest states of a batch should fit in the cache; a GPU needs large batches.
        """
        if self._device != "cpu":
            return _GPU_TOKENS
        widest = getattr(self._model.config, "intermediate_size", self._model.config.hidden_size)
        return int(np.clip(_CACHED_NUMBERS // widest, 256, 8192))

    def run(
        self,
        texts: Sequence[Ints],
        *,
        layers: Sequence[int],
        reduce: Reduce,
        beginning: Beginning | None = None,
    ) -> list["Tensor"]:
        """Runs a batch and returns the result of `reduce` for each requested layer.

        Args:
            texts: Token ids of each text; texts of equal length should be neighbours.
            layers: Numbers of the hidden layers; 0 is the token embeddings.
            reduce: Called with a layer's number and float32 states (tokens, dim), texts
                concatenated.
            beginning: Tokens that precede every text; only if the model packs.
        """
        import torch

        kept: dict[int, Tensor] = {}
        # One call at a time: hooks on the layers would also receive the states of other threads.
        with (
            self._lock,
            self._threads(texts),
            torch.inference_mode(),
            self._listen(kept, layers=layers, reduce=reduce, texts=texts),
        ):
            last = self._forward(texts, beginning=beginning)
            if self._depth in layers:
                kept[self._depth] = reduce(self._depth, last.float())
        return [kept[layer] for layer in layers]

    def begin(self, ids: Ints) -> Beginning:
        """Runs the tokens that several texts begin with, so that `run` need not repeat them."""
        import torch

        packing = Packing(runs=find_runs([len(ids)]), seen={})
        with torch.inference_mode():
            self._forward_packed([ids], packing=packing, start=0)
        assert packing.seen is not None
        return Beginning(length=len(ids), states=packing.seen)

    def _threads(self, texts: Sequence[Ints]) -> AbstractContextManager[None]:
        """Lets torch use one thread for little work on a processor."""
        if self._device != "cpu":
            return nullcontext()
        return threads_for(2.0 * self._weights * sum(map(len, texts)))

    def _forward(self, texts: Sequence[Ints], *, beginning: Beginning | None) -> "Tensor":
        """Computes the last layer's states (tokens, dim), texts concatenated."""
        if not self.packs:
            states = self._forward_padded(texts)
            return _unpad(states, texts)
        packing = Packing(
            runs=find_runs([len(ids) for ids in texts]),
            before=beginning.states if beginning else {},
        )
        start = beginning.length if beginning else 0
        return self._forward_packed(texts, packing=packing, start=start)

    def _forward_packed(self, texts: Sequence[Ints], *, packing: Packing, start: int) -> "Tensor":
        import torch

        first = start + self._first_position
        positions = np.concatenate([np.arange(first, first + len(ids)) for ids in texts])
        found = self._model(
            input_ids=torch.from_numpy(np.concatenate(texts))[None].to(self._device),
            position_ids=torch.from_numpy(positions)[None].to(self._device),
            packing=packing,
            **self._cache,
        )
        states: Tensor = found.last_hidden_state[0]
        return states

    def _forward_padded(self, texts: Sequence[Ints]) -> "Tensor":
        import torch

        longest = max(map(len, texts))
        # Padding is masked, so that any token id of the model can fill it.
        ids = np.full((len(texts), longest), self._model.config.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(texts):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        states: Tensor = self._model(
            input_ids=torch.from_numpy(ids).to(self._device),
            attention_mask=torch.from_numpy(mask).to(self._device),
            **self._cache,
        ).last_hidden_state
        return states

    @contextmanager
    def _listen(
        self,
        kept: dict[int, "Tensor"],
        *,
        layers: Sequence[int],
        reduce: Reduce,
        texts: Sequence[Ints],
    ) -> Iterator[None]:
        """Hooks the requested layers, so that a forward pass leaves reduced states in `kept`."""

        def keep(layer: int, states: Any) -> None:
            states = states[0] if isinstance(states, tuple) else states
            rows = states[0] if self.packs else _unpad(states, texts)
            kept[layer] = reduce(layer, rows.float())

        hooks = []
        for layer in layers:
            if layer == 0:
                hooks.append(
                    self._blocks[0].register_forward_pre_hook(
                        lambda _, args, kwargs: keep(
                            0, args[0] if args else kwargs["hidden_states"]
                        ),
                        with_kwargs=True,
                    )
                )
            elif layer < self._depth:  # `run` takes the last one after the final norm
                hooks.append(
                    self._blocks[layer - 1].register_forward_hook(
                        lambda _, __, states, layer=layer: keep(layer, states)
                    )
                )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _try_packing(self, *, least: float) -> bool:
        """Switches to packing if texts then get the same states as one by one; tells whether."""
        import torch
        from torch.nn.functional import cosine_similarity

        usual = self._model.config._attn_implementation
        texts = self._samples()
        register()
        try:
            check_sight(self._model.config)
            with torch.inference_mode():
                wanted = torch.cat([self._forward_padded([ids])[0] for ids in texts]).float()
                self._model.set_attn_implementation(PACKED)
                packing = Packing(runs=find_runs([len(ids) for ids in texts]))
                found = self._forward_packed(texts, packing=packing, start=0).float()
            worst = float(cosine_similarity(found, wanted, dim=-1).min())
            if worst >= least:
                return True
            reason = f"the cosine to texts one by one is {worst:.6f}"
        except (PackingUnsupportedError, TypeError, ValueError, NotImplementedError) as error:
            reason = str(error)
        self._model.set_attn_implementation(usual)
        _log.info("texts are padded, since this model cannot pack them: %s", reason)
        return False

    def _padding_agrees(self, *, least: float) -> bool:
        """Tells whether texts padded in one batch get the same states as one by one."""
        import torch
        from torch.nn.functional import cosine_similarity

        texts = self._samples()
        with torch.inference_mode():
            wanted = torch.cat([self._forward_padded([ids])[0] for ids in texts]).float()
            found = _unpad(self._forward_padded(texts), texts).float()
        worst = float(cosine_similarity(found, wanted, dim=-1).min())
        if worst < least:
            _log.warning(
                "texts are run one by one, since others beside them change what this model makes "
                "of them (cosine %.4f)",
                worst,
            )
        return worst >= least

    def _samples(self) -> list[Ints]:
        """Returns arbitrary token ids of four texts of three lengths."""
        most = min(int(self._model.config.vocab_size), 1000) - 1
        return [1 + (np.arange(7 * n, 8 * n) * 37) % most for n in (9, 5, 5, 2)]


def _length_changes_all(config: Any) -> bool:
    """Tells whether a long text changes the positions of others in its batch (longrope)."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return isinstance(rope, dict) and "longrope" in (rope.get("rope_type"), rope.get("type"))


def _unpad(states: "Tensor", texts: Sequence[Ints]) -> "Tensor":
    """Removes padding from states (texts, tokens, dim): (tokens, dim), texts concatenated."""
    import torch

    lengths = torch.tensor([len(ids) for ids in texts], device=states.device)
    there = torch.arange(states.shape[1], device=states.device)[None] < lengths[:, None]
    return states[there]
