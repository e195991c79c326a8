"""Explanation: says in words why a hit stands where it stands, and what would move it up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from subspace.errors import QueryError
from subspace.retrieval.hits import Hit, Results

# Ways to pass the hit above that are named; the smallest changes come first.
_NAMED = 3
# Characters of an id or a text that are shown.
_WIDTH = 80
# Larger changes than this factor up or down amount to leaving all else out, and are not named.
_LARGEST = 1000.0
# Differences of scores below this are rounding.
_TIE = 1e-9


@dataclass(frozen=True)
class Passing:
    """One change of weights that would let a hit pass the one above it, all else being equal.

    Attributes:
        what: The block, or the part (recency, importance, relevance), whose weights are multiplied.
        factor: What its weights would have to be multiplied by, at least (above 1) or at most
            (below 1).
    """

    what: str
    factor: float


@dataclass(frozen=True)
class Explanation:
    """Why a hit stands at its rank.

    Attributes:
        id: The hit's id.
        rank: Its place, from 1.
        of: Number of hits.
        score: Its score.
        by_block: What each block adds to the score.
        by_part: What recency, importance and relevance add to the score.
        above: Id of the hit above; None for the first.
        behind: By how much its score is below that of the hit above.
        passing: Changes that would let it pass the hit above, the smallest first.
        text: All of this in words, one statement per line.
    """

    id: str
    rank: int
    of: int
    score: float
    by_block: Mapping[str, float]
    by_part: Mapping[str, float]
    above: str | None
    behind: float
    passing: tuple[Passing, ...]
    text: str

    def __str__(self) -> str:
        """Returns the explanation in words."""
        return self.text


def explain(results: Results, item: str) -> Explanation:
    """Explains the rank of one hit of a search.

    A weight of block b is multiplied by m in the question what it would take to pass the hit above.
    With the difference d_b of the two hits in that block and D the sum of all differences, the hit
    passes if D - d_b + m d_b < 0: from m = 1 - D / d_b upwards where the hit is ahead in the block
    (d_b < 0), and downwards where it is behind by more than in all (d_b > D). With `toward` there
    is no such answer, as what a direction adds depends on all weights together; nor is there one
    for hits of equal scores, whose order is the engine's. With keywords beside recency or
    importance no part is named, as keywords count by relevance's share of all weights.

    Args:
        results: The hits of a search.
        item: Id of one of them.

    Raises:
        QueryError: The item is not among the hits.
    """
    place = next((n for n, hit in enumerate(results) if hit.id == item), None)
    if place is None:
        raise QueryError(
            f"'{_short(item)}' is not among the {len(results)} hits of this search; ask for more "
            "hits (k)"
        )
    hit = results[place]
    above = results[place - 1] if place else None
    behind = above.score - hit.score if above else 0.0
    tied = behind <= _TIE
    ways = () if above is None or tied or results.toward else tuple(_ways(hit, above, results))
    lines = list(_say(hit, above, results=results, rank=place + 1, behind=behind, ways=ways))
    return Explanation(
        id=hit.id,
        rank=place + 1,
        of=len(results),
        score=hit.score,
        by_block=hit.by_block(),
        by_part=_by_part(hit),
        above=above.id if above else None,
        behind=behind,
        passing=ways,
        text="\n".join(lines),
    )


def _by_part(hit: Hit) -> dict[str, float]:
    return {str(part): value for part, value in hit.by_part().items()}


def _differences(hit: Hit, above: Hit, *, parts: bool) -> dict[str, float]:
    """Returns by how much the hit is behind, by block and by part where there are several.

    Args:
        hit: The hit.
        above: The hit above.
        parts: Whether to give the differences by part.
    """
    found: dict[str, float] = {}
    compared = [(hit.by_block(), above.by_block())]
    if parts:
        compared.append((_by_part(hit), _by_part(above)))
    for mine, theirs in compared:
        differences = {name: theirs[name] - mine[name] for name in mine}
        counting = [name for name in mine if mine[name] or theirs[name]]
        if len(counting) > 1:  # all weights multiplied by one number change no rank
            found |= {name: differences[name] for name in counting}
    return found


def _ways(hit: Hit, above: Hit, results: Results) -> list[Passing]:
    """Returns the changes of one block or part that are enough, the smallest first."""
    total = above.score - hit.score
    ways = []
    # The weight of a part changes relevance's share, by which keywords are multiplied.
    parts = not (results.keywords and results.weights.uses_history)
    for name, difference in _differences(hit, above, parts=parts).items():
        if abs(difference) <= _TIE:
            continue
        factor = 1 - total / difference
        if 1 / _LARGEST < factor < _LARGEST:
            ways.append(Passing(what=name, factor=factor))
    return sorted(ways, key=lambda way: max(way.factor, 1 / way.factor))[:_NAMED]


def _say(
    hit: Hit,
    above: Hit | None,
    *,
    results: Results,
    rank: int,
    behind: float,
    ways: tuple[Passing, ...],
) -> Iterator[str]:
    yield f"'{_short(hit.id)}' is hit {rank} of {len(results)}, with a score of {hit.score:.4f}."
    blocks = {
        name: value for name, value in hit.by_block().items() if any(hit.parts[name].values())
    }
    yield "By block: " + (_list(blocks) or "nothing") + "."
    if results.weights.uses_history:
        scope = "of the item itself" if results.scope == "item" else "of items that are alike"
        yield f"By part: {_list(_by_part(hit))} (recency and importance are {scope})."
    if results.toward:
        named = ", ".join(f"{name}={count:g}" for name, count in results.toward.items())
        yield f"Relevance holds what toward ({named}) adds."
    if results.unlike:
        count = len(results.unlike)
        what = "example takes" if count == 1 else f"mean of {count} examples takes"
        yield f"Relevance is less what the {what} away that hits are not to be like."
    if results.arm is not None:
        yield f"The weights were chosen by the bandit: {results.arm}."
    if above is None:
        yield from _say_lead(hit, results)
        return
    yield (
        f"The hit above, '{_short(above.id)}', has {above.score:.4f}, which is {behind:.4f} more"
        + _ahead(hit, above)
        + "."
    )
    if behind <= _TIE:
        yield "The two scores are equal; their order is the engine's."
    elif results.toward:
        yield "A smaller or larger number in toward, or other weights, may let it pass."
    elif ways:
        yield "To pass it, all else being equal: " + ", or ".join(map(_way, ways)) + "."
    else:
        yield "No change of one weight alone lets it pass."


def _say_lead(hit: Hit, results: Results) -> Iterator[str]:
    if len(results) > 1:
        lead = hit.score - results[1].score
        yield f"It is the first, {lead:.4f} before '{_short(results[1].id)}'."
    else:
        yield "It is the only hit."


def _ahead(hit: Hit, above: Hit) -> str:
    """Says in which blocks the hit above is ahead, and in which this one is."""
    mine, theirs = hit.by_block(), above.by_block()
    differences = {name: theirs[name] - mine[name] for name in mine}
    if len([name for name in mine if mine[name] or theirs[name]]) < 2:
        return ""
    more = {name: value for name, value in differences.items() if value > _TIE}
    less = {name: -value for name, value in differences.items() if value < -_TIE}
    said = [f"ahead in {_list(more)}"] if more else []
    said += [f"behind in {_list(less)}"] if less else []
    return ": " + ", ".join(said) if said else ""


def _way(way: Passing) -> str:
    times = f"{way.factor:.3g} times the weight of {way.what}"
    return f"more than {times}" if way.factor > 1 else f"less than {times}"


def _list(values: Mapping[str, float]) -> str:
    order = sorted(values, key=lambda name: -abs(values[name]))
    return ", ".join(f"{name} {values[name]:+.4f}" for name in order)


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"
