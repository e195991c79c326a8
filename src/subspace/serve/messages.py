"""What clients ask and what they are answered, over HTTP and MCP alike."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from subspace.data.metadata import find_fault, is_text, shown
from subspace.data.notes import IN_TEXT
from subspace.errors import QueryError
from subspace.retrieval import Like
from subspace.retrieval.hits import Scope
from subspace.retrieval.queries import Query
from subspace.retrieval.search_options import UNLIKE_WEIGHT

# The most items of one answer or request, and the most hits.
MOST = 1000
MOST_HITS = 200
# Characters to which texts of hits are cut, if a request does not say.
_CHARACTERS = 10_000
# Characters that an id or a namespace may have over the wire.
_LONGEST_ID = 2000
_LONGEST_QUERY = 32_768


def _check_text(text: str) -> str:
    """Raises `ValueError` unless every engine can keep a text."""
    if not is_text(text):
        raise ValueError("a text cannot hold NUL or half of a surrogate pair")
    return text


def _check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Raises `ValueError` unless every engine can keep metadata."""
    for name, value in metadata.items():
        fault = find_fault({name: value})
        if fault is not None:
            raise ValueError(f"{shown(name)} cannot be kept: {fault}")
    return metadata


Id = Annotated[str, Field(min_length=1, max_length=_LONGEST_ID), AfterValidator(_check_text)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
# An encoder reads a page at most; a word of megabytes would take seconds.
QueryText = Annotated[
    str, Field(min_length=1, max_length=_LONGEST_QUERY), AfterValidator(_check_text)
]
Metadata = Annotated[dict[str, Any], AfterValidator(_check_metadata)]
Number = StrictInt | StrictFloat
Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
Weights = Annotated[
    str | dict[str, Any] | None,
    Field(
        description="Weight by block, such as {'topic': 1, 'style': 0.5}, or a text such as "
        "'topic=1,riv=0.15,0.15,0.7'. Without it the model's default weights count."
    ),
]
Toward = Annotated[
    str | dict[str, Number] | None,
    Field(
        description="More (above 0) or less (below 0) of a factor or a class, such as "
        "{'complexity': -1} for simpler texts. 1 is a clear change, 2 a strong one."
    ),
]
Filter = Annotated[
    dict[str, Scalar | list[Scalar] | dict[str, Scalar]] | None,
    Field(
        description="Only items with this metadata: {'lang': 'en'}, {'lang': ['en', 'de']} for "
        "either, {'year': {'>=': 2020}} for a range."
    ),
]
Namespace = Annotated[
    str,
    Field(
        max_length=200,
        description="Whose use counts: each namespace has recency and importance of its own. "
        "Empty for the one that all share by default.",
    ),
]


class Message(BaseModel):
    """A request or an answer; a field that it does not have is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LikeItem(Message):
    """An item of the memory that hits are to be like."""

    like: Id


Keywords = Annotated[
    Number,
    Field(
        ge=0,
        description="Weight of the query's very words beside its meaning, such as 0.3; for names "
        "of files, libraries, errors and the like. 0 for meaning alone.",
    ),
]
Unlike = Annotated[
    list[QueryText | LikeItem],
    Field(
        max_length=50,
        description="What hits are not to be like: texts, or items as {'like': 'ID'}. Items among "
        "them are not found.",
    ),
]


class ByBlock(Message):
    """A text or an item for some blocks."""

    blocks: dict[str, QueryText | LikeItem] = Field(min_length=1)


class SearchRequest(Message):
    """What to search for, and how."""

    query: QueryText | None = Field(default=None, description="What to search for, in words.")
    like: Id | None = Field(default=None, description="Instead of words: more like this item.")
    blocks: dict[str, QueryText | LikeItem] | None = Field(
        default=None,
        description="Instead of both, by block: {'topic': 'about this', 'style': {'like': 'ID'}}.",
    )
    k: int = Field(default=10, ge=1, le=MOST_HITS, description="Number of hits.")
    weights: Weights = None
    preset: str | None = Field(
        default=None,
        description="A mix of recency, importance and relevance by name, such as 'balanced'; or "
        "'auto', which learns the mix from how searches are rated.",
    )
    toward: Toward = None
    where: Filter = None
    scope: Scope = Field(
        default="block",
        description="How recency and importance count: 'block' (also for items that are alike in "
        "a block) or 'item' (for the item alone).",
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        description="Only the best of these by relevance are ordered by all weights.",
    )
    characters: int | None = Field(
        default=_CHARACTERS, ge=1, description="Length to which texts are cut; null for none."
    )
    exclude: list[Id] = Field(default=[], max_length=MOST, description="Ids that are left out.")
    keywords: Keywords = 0
    unlike: Annotated[
        list[QueryText | LikeItem | ByBlock],
        Field(
            max_length=50,
            description="What hits are not to be like: texts, items as {'like': 'ID'}, or either "
            "by block as {'blocks': {'style': ...}}. Items among them are not found.",
        ),
    ] = []
    unlike_weight: Annotated[
        Number,
        Field(ge=0, description="How much these take away, where the query adds 1."),
    ] = UNLIKE_WEIGHT
    namespace: Namespace = ""

    def as_query(self) -> Query:
        """Returns the query as an index takes it.

        Raises:
            QueryError: Not exactly one of `query`, `like` and `blocks` is given.
        """
        if sum(one is not None for one in (self.query, self.like, self.blocks)) != 1:
            raise QueryError("give one of query, like and blocks")
        if self.query is not None:
            return self.query
        if self.like is not None:
            return Like(self.like)
        return {block: _as_part(part) for block, part in (self.blocks or {}).items()}

    def as_unlike(self) -> list[Query]:
        """Returns what hits are not to be like as an index takes it."""
        return [_as_query(one) for one in self.unlike]


def _as_query(part: str | LikeItem | ByBlock) -> Query:
    if isinstance(part, ByBlock):
        return {block: _as_part(one) for block, one in part.blocks.items()}
    return _as_part(part)


def _as_part(part: str | LikeItem) -> str | Like:
    return part if isinstance(part, str) else Like(part.like)


class FoundItem(Message):
    """One hit: an item, its score, and what each block (and keywords) and each part adds to it."""

    id: str
    score: float
    text: str
    metadata: dict[str, Any]
    by_block: dict[str, float]
    by_part: dict[str, float]


class SearchAnswer(Message):
    """The hits, best first."""

    search_id: str = Field(description="Names this search when its hits are explained or rated.")
    hits: list[FoundItem]
    weights: dict[str, dict[str, float]]
    scope: str
    arm: str | None = Field(default=None, description="The mix that preset 'auto' chose.")


class BriefHit(Message):
    """One hit, for readers that pay for every word."""

    id: str
    score: float
    text: str
    metadata: dict[str, Any]


class BriefAnswer(Message):
    """The hits, best first, for readers that pay for every word."""

    search_id: str = Field(description="Names this search for report_use and explain_hit.")
    hits: list[BriefHit]
    arm: str | None = Field(default=None, description="The mix that preset 'auto' chose.")

    @classmethod
    def of(cls, answer: SearchAnswer, *, characters: int) -> Self:
        """Makes a brief answer.

        Texts are cut. Name, title and description of skills and notes are left out of the metadata,
        as the text begins with them.

        Args:
            answer: The whole answer.
            characters: Length to which texts are cut.
        """
        return cls(
            search_id=answer.search_id,
            hits=[
                BriefHit(
                    id=hit.id,
                    score=round(hit.score, 4),
                    text=shorten(hit.text, most=characters),
                    metadata={
                        name: value
                        for name, value in hit.metadata.items()
                        if not (name in IN_TEXT and isinstance(value, str) and value in hit.text)
                    },
                )
                for hit in answer.hits
            ],
            arm=answer.arm,
        )


class ExplainRequest(Message):
    """Which hit of which search to explain."""

    search_id: Id
    id: Id
    namespace: Namespace = ""


class UseRequest(Message):
    """Which items were used, and how well each served."""

    items: dict[Id, Annotated[float, Field(ge=0, le=1)] | None] = Field(
        description="By id: how well it served, from 0 (not at all) to 1; null if unknown.",
        min_length=1,
        max_length=MOST,
    )
    search_id: Id | None = Field(
        default=None,
        description="The search that found them; then each counts once, however often sent.",
    )
    namespace: Namespace = ""


class UseAnswer(Message):
    """What was counted."""

    counted: int = Field(description="Uses that are new; one that was reported before is not.")
    learned: bool = Field(
        default=False, description="Whether preset 'auto', which made the search, learned from it."
    )


class NewItem(Message):
    """An item to keep."""

    id: Id | None = Field(
        default=None,
        description="Its id; an item with the same id is replaced. Made up if left out.",
    )
    text: Text = Field(description="What is kept and searched.")
    metadata: Metadata = Field(default={}, description="Values by name, to filter by and to show.")


class AddRequest(Message):
    """Items to keep."""

    items: list[NewItem] = Field(min_length=1, max_length=MOST)

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        named = [item.id for item in self.items if item.id is not None]
        twice = [name for name, count in Counter(named).items() if count > 1]
        if twice:
            raise ValueError(f"ids must differ; used more than once: {', '.join(twice[:5])}")
        return self


class UpdateRequest(Message):
    """What is changed of an item; what is left out stays."""

    text: Text | None = None
    metadata: Metadata | None = Field(default=None, description="Replaces all of its metadata.")


class IdsAnswer(Message):
    """The ids of items that were added, changed or removed."""

    ids: list[str]


class DeleteRequest(Message):
    """Items to remove."""

    ids: list[Id] = Field(min_length=1, max_length=MOST)


class PinRequest(Message):
    """Items that are kept fresh, or no longer."""

    ids: list[Id] = Field(min_length=1, max_length=MOST)
    pinned: bool = Field(default=True, description="False to unpin.")
    namespace: Namespace = ""


class PinsAnswer(Message):
    """All items that are pinned."""

    pinned: list[str]


class Item(Message):
    """An item as it is kept."""

    id: str
    text: str
    metadata: dict[str, Any]


class ListRequest(Message):
    """Which items to list."""

    after: str | None = Field(default=None, description="`next_after` of the answer before.")
    limit: int = Field(default=100, ge=1, le=MOST)
    where: Filter = None


class ListAnswer(Message):
    """Some items in a stable order, and where the next begin."""

    items: list[Item]
    total: int = Field(description="Items of the memory that match.")
    next_after: str | None = Field(description="Ask for the items after this one; null at the end.")


class LearnedRequest(Message):
    """Whose ratings are asked about."""

    namespace: Namespace = ""


class LearnedAnswer(Message):
    """What was learned of the texts that are liked, and from which ratings."""

    learned: bool = Field(description="Whether `toward` takes `liked` in this namespace.")
    reason: str = Field(default="", description="Why nothing was learned.")
    trust: float = Field(default=0.0, description="How well ratings predict others, from 0 to 1.")
    follows: dict[str, float] = Field(
        default_factory=dict,
        description="How it goes along with other directions: correlations, from -1 to 1.",
    )
    ratings: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="By search, how well its hits served, from 0 to 1."
    )


class ForgetRequest(Message):
    """Searches whose uses and ratings are removed for good."""

    search_ids: list[Id] = Field(min_length=1, max_length=MOST)
    namespace: Namespace = ""


class ForgetAnswer(Message):
    """What was removed."""

    forgotten: int = Field(description="Number of uses.")


class AboutAnswer(Message):
    """What the memory is made of."""

    items: int
    blocks: dict[str, int] = Field(description="Width of each block.")
    default_weights: dict[str, float]
    directions: list[str] = Field(description="Names that `toward` takes.")
    presets: list[str]


class Health(Message):
    """Whether the service lives or is ready."""

    status: str


class ErrorAnswer(Message):
    """Why a request was refused, and what to do."""

    error: str


def shorten(text: str, *, most: int | None) -> str:
    """Cuts a text to a number of characters, with an ellipsis where it was cut."""
    return text if most is None or len(text) <= most else text[: most - 1].rstrip() + "…"


def say_problem(problem: Mapping[str, Any]) -> str:
    """Says where a message is wrong, and how; takes what pydantic tells of it."""
    place = ".".join(str(part) for part in problem["loc"] if part != "body")
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])


def encodable(text: str) -> str:
    """Returns a text that can be sent: halves of surrogate pairs become escapes."""
    return text.encode(errors="backslashreplace").decode()


def as_plain(values: Mapping[Any, float]) -> dict[str, float]:
    """Returns numbers by name as JSON has them."""
    return {str(name): float(value) for name, value in values.items()}
