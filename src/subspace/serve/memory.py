"""Memory: what clients of a served index can do; a change is on disk before it is answered."""

import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from subspace.arrays import Vectors
from subspace.data.notes import FILE, file_of
from subspace.data.ratings import LIKED
from subspace.data.records import Record
from subspace.errors import BanditError, ConfigError, IndexFolderError, QueryError, UsageLogError
from subspace.model.toward import read_toward
from subspace.retrieval import PRESETS, Explanation, Index, Results, explain, follow_folder
from subspace.retrieval.follow import Changes
from subspace.retrieval.index import AUTO
from subspace.serve.liked_texts import LikedTexts
from subspace.serve.messages import (
    AboutAnswer,
    ExplainRequest,
    Filter,
    ForgetAnswer,
    ForgetRequest,
    FoundItem,
    IdsAnswer,
    Item,
    LearnedAnswer,
    LearnedRequest,
    ListAnswer,
    NewItem,
    PinRequest,
    PinsAnswer,
    SearchAnswer,
    SearchRequest,
    UpdateRequest,
    UseAnswer,
    UseRequest,
    as_plain,
    shorten,
)

_log = logging.getLogger(__name__)

# Searches whose hits can still be explained, and how many hits they have in all: each takes some
# kilobytes.
_REMEMBERED, _REMEMBERED_HITS = 1000, 20_000
# Characters of texts in one page of a list.
_PAGE_CHARACTERS = 1_000_000


class ReadOnlyError(ConfigError):
    """The memory is served for reading alone."""


class UnknownItemError(QueryError):
    """The memory has no such item."""


class Memory:
    """An index with its usage log and bandit, used by many clients at once.

    Any number of threads may call it. Searches run beside each other; changes wait for each other,
    and each is saved before its method returns, so what was answered survives a killed process.
    Changes that other processes have saved in the same index are taken up by the next call.

    Attributes:
        index: The index.
        namespace: The namespace of requests that name none.
        preset: The preset of searches that name neither weights nor a preset; None for none.
        followed: Whether it follows a folder, whose items are changed there alone.
        read_only: Whether requests that change something are refused.
        liked: What ratings say of the texts that each namespace likes; None if nothing is learned
            from them.
    """

    def __init__(
        self,
        index: Index,
        *,
        namespace: str = "",
        preset: str | None = None,
        followed: bool = False,
        read_only: bool = False,
        learn_liked: bool = False,
        reopen: Callable[[], Index] | None = None,
    ) -> None:
        """Takes over an open index; `close` closes it.

        Args:
            index: The index.
            namespace: See the attributes, as for the others.
            preset: The preset of searches that name none.
            followed: Whether it follows a folder.
            read_only: Whether changes are refused.
            learn_liked: Whether searches can go toward `liked`, which is learned from ratings.
            reopen: Opens the index again, after it was built again or its usage log replaced.

        Raises:
            ConfigError: The model has a direction `liked` of its own.
        """
        if learn_liked and LIKED in index.model.heads:
            raise ConfigError(
                f"the checkpoint has learned what is '{LIKED}' already: serve it without learning "
                "that, or serve the one that it was adapted from"
            )
        self.index = index
        self._reopen = reopen
        self.namespace = namespace
        self.preset = preset
        self.followed = followed
        self.read_only = read_only
        self.liked = LikedTexts() if learn_liked else None
        self._writing, self._reopening = threading.Lock(), threading.Lock()
        self._searches: OrderedDict[tuple[str, str], Results] = OrderedDict()
        self._remembered_hits = 0
        self._remembering = threading.Lock()

    def about(self) -> AboutAnswer:
        """Says how many items there are, and what a search can name."""
        self._refresh()
        model = self.index.model
        return AboutAnswer(
            items=len(self.index),
            blocks=model.layout.to_widths(),
            default_weights=as_plain(model.default_weights),
            directions=self._directions(),
            presets=[*PRESETS, *([AUTO] if self.index.bandit is not None else [])],
        )

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Searches, and remembers the hits for `explain`."""
        query, preset = request.as_query(), request.preset
        if preset is None and request.weights is None:
            # A bandit does not choose for searches that prefer something.
            preset = None if request.toward and self.preset == AUTO else self.preset
        if preset == AUTO and self.read_only:
            raise ReadOnlyError("preset 'auto' learns, and this memory is served for reading alone")
        self._refresh()
        found = self._searched(request).search(
            query,
            weights=request.weights,
            preset=preset,
            toward=request.toward,
            k=request.k,
            scope=request.scope,
            candidates=request.candidates,
            where=request.where,
            exclude=request.exclude,
            namespace=self._named(request.namespace),
            keywords=request.keywords,
            unlike=request.as_unlike(),
            unlike_weight=request.unlike_weight,
        )
        self._remember(found, namespace=self._named(request.namespace))
        return SearchAnswer(
            search_id=found.query_id,
            hits=[
                FoundItem(
                    id=hit.id,
                    score=hit.score,
                    text=shorten(hit.text, most=request.characters),
                    metadata=dict(hit.metadata),
                    by_block=as_plain(hit.by_block()),
                    by_part=as_plain(hit.by_part()),
                )
                for hit in found
            ],
            weights={part: as_plain(row) for part, row in found.weights.as_dict().items()},
            scope=found.scope,
            arm=found.arm,
        )

    def _searched(self, request: SearchRequest) -> Index:
        """Returns the index, or one that knows what is liked if the request asks for it."""
        if self.liked is None or not request.toward or LIKED not in read_toward(request.toward):
            return self.index
        learned = self.liked.of(self.index, namespace=self._named(request.namespace))
        if learned.index is None:
            raise QueryError(
                f"nothing can be said of what is '{LIKED}' so far: {learned.reason}. Search "
                "without it, and report how well hits served, good and bad ones of the same search"
            )
        return learned.index

    def learned(self, request: LearnedRequest) -> LearnedAnswer:
        """Says what was learned of the texts that are liked, and from which ratings.

        Raises:
            ConfigError: The memory learns nothing from ratings.
        """
        if self.liked is None:
            raise ConfigError("this memory does not learn what is liked (--learn-liked)")
        self._refresh()
        found = self.liked.of(self.index, namespace=self._named(request.namespace))
        return LearnedAnswer(
            learned=found.index is not None,
            reason=found.reason,
            trust=found.told.get("trust", 0.0),
            follows=found.told.get("follows", {}),
            ratings=found.told.get("feedback", {}),
        )

    def forget(self, request: ForgetRequest) -> ForgetAnswer:
        """Removes the uses and ratings of searches for good, and what was learned from them.

        What preset `auto` has learned of its mixes stays: it knows no items.

        Raises:
            ConfigError: There is no usage log.
        """
        self._check_writable()
        self._refresh()
        histories = self.index.blocks.histories
        if histories is None:
            raise ConfigError("there is no usage log, and so nothing to forget")
        namespace = self._named(request.namespace)
        return ForgetAnswer(forgotten=histories.log.forget(request.search_ids, namespace=namespace))

    def explain(self, request: ExplainRequest) -> Explanation:
        """Explains a hit of one of the last 1,000 searches of all clients.

        Raises:
            QueryError: The search is not known or too long ago, or the item was not among its hits.
        """
        with self._remembering:
            found = self._searches.get((self._named(request.namespace), request.search_id))
        if found is None:
            raise QueryError(
                f"search '{request.search_id}' is unknown, or too long ago; search again"
            )
        return explain(found, request.id)

    def report_use(self, request: UseRequest) -> UseAnswer:
        """Logs that items were used, and teaches the bandit which hits of a search served.

        Raises:
            UnknownItemError: An item is not in the memory.
            ConfigError: There is no usage log.
        """
        self._check_writable()
        self._refresh()
        namespace = self._named(request.namespace)
        with _unknown_said():
            counted = self.index.use(request.items, query_id=request.search_id, namespace=namespace)
        learned = request.search_id is not None and self._teach(
            request.search_id, request.items, namespace=namespace
        )
        return UseAnswer(counted=counted, learned=learned)

    def _teach(self, search_id: str, items: Mapping[str, float | None], *, namespace: str) -> bool:
        """Teaches the bandit from the first report on a search whose mix it chose."""
        histories = self.index.blocks.histories
        if self.index.bandit is None or histories is None:
            return False
        with self._remembering:
            found = self._searches.get((namespace, search_id))
        hits = items if found is None else {hit.id for hit in found} & items.keys()
        successes = {name: value for name in hits if (value := items[name]) is not None}
        if not successes or not histories.log.awaits_rating(search_id, namespace=namespace):
            return False
        try:
            self.index.feedback(search_id, hits=successes, namespace=namespace)
        except (BanditError, UsageLogError):  # rated meanwhile, or too long ago: the uses count
            return False
        return True

    def add(self, items: Sequence[NewItem]) -> IdsAnswer:
        """Adds items; replaces those with the same ids.

        Raises:
            QueryError: An item comes from the folder that is followed, or says so.
        """
        self._check_writable()
        records = [
            Record(id=one.id or uuid.uuid4().hex, text=one.text, metadata=one.metadata)
            for one in items
        ]
        vectors = self._encode([record.text for record in records])
        with self._changing():
            self._check_by_hand(records)
            self.index.add(records, vectors=vectors)
        return IdsAnswer(ids=[record.id for record in records])

    def update(self, item: str, request: UpdateRequest) -> Item:
        """Changes an item's text, its metadata or both.

        Raises:
            UnknownItemError: There is no such item.
            QueryError: Nothing is to be changed, or the item comes from the folder that is
                followed.
        """
        self._check_writable()
        if request.text is None and request.metadata is None:
            raise QueryError("give a new text, new metadata, or both")
        vectors = None if request.text is None else self._encode([request.text])
        with self._changing():
            (old,) = self._get([item])
            new = Record(
                id=item,
                text=old.text if request.text is None else request.text,
                metadata=old.metadata if request.metadata is None else request.metadata,
            )
            self._check_by_hand([new])
            if vectors is None:
                self.index.update([new])
            else:
                self.index.add([new], vectors=vectors)
        return _as_item(new)

    def delete(self, ids: Sequence[str]) -> IdsAnswer:
        """Removes items; all of them or, if one is unknown, none.

        Raises:
            UnknownItemError: An item is not in the memory.
            QueryError: An item comes from the folder that is followed.
        """
        with self._changing():
            self._check_by_hand(self._get(list(ids)))
            self.index.delete(list(ids))
        return IdsAnswer(ids=list(dict.fromkeys(ids)))

    def list_items(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        where: Filter = None,
        characters: int | None = None,
    ) -> ListAnswer:
        """Lists items in a stable order.

        Args:
            after: Id of the last item of the answer before; None to begin.
            limit: Number of items.
            where: Metadata that the items must have.
            characters: Length to which texts are cut; None for whole texts.
        """
        self._refresh()
        found = self.index.list(after=after, limit=limit + 1, where=where)
        lengths = accumulate(min(len(one.text), characters or len(one.text)) for one in found)
        fitting = sum(length <= _PAGE_CHARACTERS for length in lengths)
        shown = found[: max(1, min(limit, fitting))]
        return ListAnswer(
            items=[
                Item(
                    id=one.id,
                    text=shorten(one.text, most=characters),
                    metadata=dict(one.metadata),
                )
                for one in shown
            ],
            total=self.index.blocks.engine.count(where),
            next_after=shown[-1].id if len(found) > len(shown) else None,
        )

    def show(self, item: str) -> Item:
        """Returns one item with its whole text.

        Raises:
            UnknownItemError: There is no such item.
        """
        self._refresh()
        return _as_item(self._get([item])[0])

    def pin(self, request: PinRequest) -> PinsAnswer:
        """Pins or unpins items, which count as used just now while they are pinned.

        Raises:
            UnknownItemError: An item is not in the memory.
            ConfigError: There is no usage log.
        """
        self._check_writable()
        self._refresh()
        namespace = self._named(request.namespace)
        change = self.index.pin if request.pinned else self.index.unpin
        with _unknown_said():
            change(request.ids, namespace=namespace)
        return PinsAnswer(pinned=list(self.index.pins(namespace=namespace)))

    def follow(self, folder: Path) -> Changes:
        """Makes the memory equal to a folder of skills and notes; see `follow_folder`.

        Other changes go on while texts are encoded; call it from one thread at a time.
        """
        self._check_writable()
        self._refresh()
        changes = follow_folder(self.index, folder)
        with self._writing:
            self.index.save()
        return changes

    def close(self) -> None:
        """Closes the index; nothing is left to be saved."""
        self.index.close()
        if self.index.bandit is not None:
            self.index.bandit.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Makes one change at a time, and saves it."""
        self._check_writable()
        with self._writing:
            self._refresh()
            yield
            self.index.save()

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError("this memory is served for reading alone (--read-only)")

    def _refresh(self) -> None:
        """Takes up what others have saved; opens the index again if it is another by now.

        What still uses the index from before may end its work with it.
        """
        index = self.index
        histories = index.blocks.histories
        try:
            index.refresh()
            if histories is None or histories.log.is_there:
                return
        except IndexFolderError:
            if self._reopen is None:
                raise
        if self._reopen is None:
            return
        with self._reopening:
            if self.index is index:  # nobody else was faster
                self.index = self._reopen()
                _log.warning("the index or its usage log was made anew, and was opened again")

    def _directions(self) -> list[str]:
        """Returns the names that `toward` takes, without the many of a block that search is by."""
        default = self.index.model.default_weights
        by = {name for name, weight in default.items() if weight}
        if len(by) == len(default):  # no block is set apart for search
            by = set()
        names = {name for name in self.index.model.directions if name.partition(":")[0] not in by}
        return sorted(names | ({LIKED} if self.liked is not None else set()))

    def _encode(self, texts: list[str]) -> Vectors:
        """Encodes texts, which takes longest: before a change, so that no other waits for it."""
        return self.index.model.open_encoder().encode(texts)

    def _check_by_hand(self, records: Sequence[Record]) -> None:
        """Raises if records are of the folder that is followed, which would undo their change."""
        if not self.followed:
            return
        there = self.index.blocks.engine.fetch([record.id for record in records]).documents
        for record in (*there, *records):
            file = record.metadata.get(FILE)
            if file_of(record.id, record.metadata) is not None:
                raise QueryError(
                    f"'{record.id}' is the file '{file}' of the folder that this memory follows: "
                    "change it there"
                )

    def _get(self, items: list[str]) -> list[Record]:
        with _unknown_said():
            return self.index.get(items)

    def _named(self, namespace: str) -> str:
        return namespace or self.namespace

    def _remember(self, found: Results, *, namespace: str) -> None:
        with self._remembering:
            self._searches[namespace, found.query_id] = found
            self._remembered_hits += len(found)
            while len(self._searches) > _REMEMBERED or self._remembered_hits > _REMEMBERED_HITS:
                _, oldest = self._searches.popitem(last=False)
                self._remembered_hits -= len(oldest)


@contextmanager
def _unknown_said() -> Iterator[None]:
    """Turns what an index says of ids that it does not have into an `UnknownItemError`."""
    try:
        yield
    except QueryError as error:
        shown = str(error).removeprefix("not in the index: ")
        raise UnknownItemError(f"not in this memory: {shown}") from error


def _as_item(record: Record) -> Item:
    return Item(id=record.id, text=record.text, metadata=dict(record.metadata))
