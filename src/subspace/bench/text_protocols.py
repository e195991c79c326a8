"""Protocols that differ in the text: one vector for all or part of it, or several vectors."""

from functools import partial

from subspace.bench import text_units as cut
from subspace.bench.protocol import LEVELS, Protocol, Setting, VectorLevel
from subspace.bench.readings import Pieces, Reading, Tokens
from subspace.bench.views import identity_view, raw_view

SINGLE = "single-vector"
WINDOWS = (32, 64)
POOLS = (2, 4, 8)
BEST = 3

WHOLE = Pieces(cut.whole)
SENTENCES = Pieces(cut.sentences)
_PARAGRAPHS = Pieces(cut.paragraphs)


def list_single(setting: Setting) -> list[Protocol]:
    """Lists protocols with one vector per item, for all or part of its text."""
    raw = raw_view(setting.raw)
    cuts: tuple[tuple[str, str, Reading], ...] = (
        (SINGLE, "the whole text", WHOLE),
        ("single-title", "the title", Pieces(cut.title)),
        ("single-sentence", "up to the first sentence's end", Pieces(cut.first_sentence)),
        ("single-paragraph", "up to the first paragraph's end", Pieces(cut.first_paragraph)),
    )
    return [Protocol(name, "single", about, (VectorLevel(r, raw),)) for name, about, r in cuts]


def list_chunks(setting: Setting) -> list[Protocol]:
    """Lists protocols with a vector per piece of text; the best pieces give the item's score."""
    raw = raw_view(setting.raw)
    found = [
        Protocol(
            "chunk-sentences", "chunks", "sentences, the best", (VectorLevel(SENTENCES, raw),)
        ),
        Protocol(
            f"chunk-sentences-best-{BEST}",
            "chunks",
            f"sentences, mean of the best {BEST}",
            (VectorLevel(SENTENCES, raw, best=BEST),),
        ),
        Protocol(
            "chunk-paragraphs", "chunks", "paragraphs, the best", (VectorLevel(_PARAGRAPHS, raw),)
        ),
    ]
    for words in WINDOWS:
        reading = Pieces(partial(cut.windows, words=words))
        about = f"windows of {words} words, the best"
        found.append(
            Protocol(f"chunk-windows-{words}", "chunks", about, (VectorLevel(reading, raw),))
        )
    return found


def make_hierarchical(setting: Setting) -> Protocol:
    """Makes the protocol that adds scores of document, best paragraph and best sentence."""
    raw, readings = raw_view(setting.raw), (WHOLE, _PARAGRAPHS, SENTENCES)
    weights = [setting.levels[name] for name in LEVELS]
    levels = [
        VectorLevel(r, raw, weight=w) for r, w in zip(readings, weights, strict=True) if w > 0
    ]
    about = "document, best paragraph, best sentence: " + " + ".join(f"{w:.2g}" for w in weights)
    settings = {"levels": dict(setting.levels)}
    return Protocol("hierarchical", "hierarchical", about, tuple(levels), settings)


def list_late_interaction() -> list[Protocol]:
    """Lists protocols with a vector for each token, or for several tokens pooled to one."""
    plans = [("late-interaction-all", "every token (MaxSim)", 1)]
    plans += [(f"late-interaction-pool-{n}", f"tokens, {n} pooled to one", n) for n in POOLS]
    return [
        Protocol(name, "late-interaction", about, (VectorLevel(Tokens(pool), identity_view),))
        for name, about, pool in plans
    ]
