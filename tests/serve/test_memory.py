"""A memory answers as its index does, and what it has answered is on disk."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from retrieval_world import QUERY, RECORDS
from serve_world import make_memory

from subspace.errors import ConfigError, IndexFolderError, QueryError
from subspace.model import LinearHead
from subspace.retrieval import Index, Like
from subspace.serve.memory import Memory, ReadOnlyError, UnknownItemError
from subspace.serve.messages import (
    ByBlock,
    ExplainRequest,
    ForgetRequest,
    LearnedRequest,
    LikeItem,
    NewItem,
    PinRequest,
    SearchRequest,
    UpdateRequest,
    UseRequest,
)


def as_others_see_it(memory: Memory) -> dict[str, tuple[str, dict]]:
    """What another process reads from the folder now."""
    with Index.open(memory.index.blocks.engine._folder, memory.index.model) as index:
        return {record.id: (record.text, dict(record.metadata)) for record in index.list()}


def test_a_search_gives_the_hits_scores_and_parts_of_the_index(memory):
    options = {"weights": {"topic": 1, "style": 0.4}, "where": {"loud": False}, "k": 4}
    asked = memory.search(SearchRequest(query=QUERY, **options))
    found = memory.index.search(QUERY, **options)
    assert [(h.id, h.score, h.text) for h in asked.hits] == [(h.id, h.score, h.text) for h in found]
    for hit in asked.hits:
        assert sum(hit.by_block.values()) == pytest.approx(hit.score)
        assert sum(hit.by_part.values()) == pytest.approx(hit.score)


def test_each_form_of_query_is_that_of_the_index(memory):
    forms = [
        (SearchRequest(query=QUERY), QUERY),
        (SearchRequest(like="cake"), Like("cake")),
        (
            SearchRequest(blocks={"topic": QUERY, "style": LikeItem(like="race")}),
            {"topic": QUERY, "style": Like("race")},
        ),
    ]
    for request, query in forms:
        assert [h.id for h in memory.search(request).hits] == [
            h.id for h in memory.index.search(query)
        ]


def test_keywords_and_negative_examples_are_those_of_the_index(memory):
    by_block = ByBlock(blocks={"style": LikeItem(like="race"), "topic": "x"})
    unlike = ["a song", LikeItem(like="cake"), by_block]
    request = SearchRequest(query=QUERY, keywords=0.4, unlike=unlike, unlike_weight=0.7)
    asked = memory.search(request)
    found = memory.index.search(
        QUERY,
        keywords=0.4,
        unlike=["a song", Like("cake"), {"style": Like("race"), "topic": "x"}],
        unlike_weight=0.7,
    )
    assert [(hit.id, hit.score) for hit in asked.hits] == [(hit.id, hit.score) for hit in found]
    assert all("keywords" in hit.by_block for hit in asked.hits)
    plain = memory.search(SearchRequest(query=QUERY))
    assert [hit.score for hit in plain.hits] != [hit.score for hit in asked.hits]
    assert not any("keywords" in hit.by_block for hit in plain.hits)


@pytest.mark.parametrize(
    "given", [{}, {"query": "a", "like": "cake"}, {"query": "a", "blocks": {"topic": "b"}}]
)
def test_none_or_two_forms_of_a_query_are_refused(memory, given):
    with pytest.raises(QueryError, match="one of query, like and blocks"):
        memory.search(SearchRequest(**given))


def test_every_change_is_on_disk_when_it_is_answered(memory):
    made = memory.add([NewItem(text="prune the roses in spring", metadata={"n": [1, {"a": None}]})])
    (name,) = made.ids
    assert as_others_see_it(memory)[name] == ("prune the roses in spring", {"n": [1, {"a": None}]})
    memory.update(name, UpdateRequest(text="prune the roses in autumn"))
    assert as_others_see_it(memory)[name] == ("prune the roses in autumn", {"n": [1, {"a": None}]})
    memory.update(name, UpdateRequest(metadata={"season": "autumn"}))
    assert as_others_see_it(memory)[name] == ("prune the roses in autumn", {"season": "autumn"})
    assert memory.show(name).text == "prune the roses in autumn"
    memory.delete([name])
    assert name not in as_others_see_it(memory)


def test_what_another_process_has_saved_is_seen_by_the_next_call(memory):
    folder = memory.index.blocks.engine._folder
    with Index.open(folder, memory.index.model) as other:
        other.delete(["cake"])
    with pytest.raises(UnknownItemError):
        memory.show("cake")
    assert memory.about().items == len(RECORDS) - 1


def test_of_several_ids_all_are_removed_or_none(memory):
    with pytest.raises(UnknownItemError, match="not in this memory: nobody"):
        memory.delete(["cake", "nobody"])
    assert memory.show("cake").id == "cake"
    assert memory.delete(["cake", "cake", "race"]).ids == ["cake", "race"]
    assert memory.about().items == len(RECORDS) - 2


def test_items_are_listed_once_each_page_by_page(memory):
    seen, after = [], None
    while True:
        page = memory.list_items(after=after, limit=5)
        assert page.total == len(RECORDS)
        seen += [item.id for item in page.items]
        if page.next_after is None:
            break
        after = page.next_after
    assert sorted(seen) == sorted(record.id for record in RECORDS)
    loud = memory.list_items(where={"loud": True})
    assert {item.id for item in loud.items} == {"cake", "race", "concert"}
    assert loud.total == 3


def test_a_use_counts_once_however_often_it_is_reported(memory):
    found = memory.search(SearchRequest(query=QUERY))
    request = UseRequest(items={found.hits[0].id: 1.0}, search_id=found.search_id)
    assert memory.report_use(request).counted == 1
    assert memory.report_use(request).counted == 0
    assert len(memory.index.blocks.history.log) == 1


def test_what_one_namespace_used_does_not_count_in_another(memory):
    def ranking(namespace: str) -> list[str]:
        request = SearchRequest(
            query=QUERY, preset="pure_importance", scope="item", namespace=namespace, k=12
        )
        return [hit.id for hit in memory.search(request).hits]

    before = ranking("bob")
    memory.report_use(UseRequest(items={"tax": 1.0}, namespace="alice"))
    assert ranking("alice")[0] == "tax"
    assert ranking("bob") == before


def test_the_namespace_of_the_memory_stands_for_requests_without_one(tmp_path, model):
    memory = make_memory(tmp_path, model, namespace="alice")
    memory.report_use(UseRequest(items={"tax": 1.0}))
    asked = SearchRequest(query=QUERY, preset="pure_importance", scope="item", namespace="alice")
    assert memory.search(asked).hits[0].id == "tax"
    memory.close()


def test_the_preset_of_the_memory_stands_for_searches_that_name_no_mix(tmp_path, model):
    memory = make_memory(tmp_path, model, preset="pure_importance")
    memory.report_use(UseRequest(items={"tax": 1.0}))
    assert memory.search(SearchRequest(query=QUERY, scope="item")).hits[0].id == "tax"
    plain = memory.search(SearchRequest(query=QUERY, weights="topic=1"))
    assert [hit.id for hit in plain.hits] == [
        hit.id for hit in memory.index.search(QUERY, weights="topic=1")
    ]
    memory.close()


def test_a_search_that_prefers_something_is_not_left_to_the_bandit(tmp_path, model):
    memory = make_memory(tmp_path, model, preset="auto")
    found = memory.search(SearchRequest(query=QUERY, toward={"complexity": -1}))
    assert found.arm is None
    assert memory.search(SearchRequest(query=QUERY)).arm is not None
    memory.close()


def test_a_report_teaches_the_bandit_that_chose_the_mix_and_only_once(memory):
    found = memory.search(SearchRequest(query=QUERY, preset="auto"))
    request = UseRequest(items={found.hits[1].id: 1.0}, search_id=found.search_id)
    assert memory.report_use(request).learned
    again = memory.report_use(request)
    assert (again.learned, again.counted) == (False, 0)
    plain = memory.search(SearchRequest(query=QUERY, preset="balanced"))
    request = UseRequest(items={plain.hits[0].id: 1.0}, search_id=plain.search_id)
    assert not memory.report_use(request).learned


def test_a_report_teaches_in_the_namespace_of_the_search_alone(memory):
    found = memory.search(SearchRequest(query=QUERY, preset="auto", namespace="alice"))
    items = {found.hits[1].id: 1.0}
    other = UseRequest(items=items, search_id=found.search_id, namespace="bob")
    assert not memory.report_use(other).learned
    own = UseRequest(items=items, search_id=found.search_id, namespace="alice")
    assert memory.report_use(own).learned


def test_what_was_used_but_not_found_by_the_search_teaches_nothing_about_it(memory):
    found = memory.search(SearchRequest(query=QUERY, preset="auto", k=2))
    names = [hit.id for hit in found.hits]
    other = next(record.id for record in RECORDS if record.id not in names)
    alone = memory.report_use(UseRequest(items={other: 1.0}, search_id=found.search_id))
    assert (alone.learned, alone.counted) == (False, 1)
    beside = UseRequest(items={other: 1.0, names[0]: 1.0}, search_id=found.search_id)
    assert memory.report_use(beside).learned


def test_a_report_with_a_wrong_item_counts_nothing(memory):
    found = memory.search(SearchRequest(query=QUERY, preset="auto"))
    items = {found.hits[0].id: 1.0, "nobody": 1.0}
    with pytest.raises(UnknownItemError):
        memory.report_use(UseRequest(items=items, search_id=found.search_id))
    assert len(memory.index.blocks.history.log) == 0
    assert memory.index.blocks.history.log.awaits_rating(found.search_id)


def test_pins_are_those_of_their_namespace(memory):
    assert memory.pin(PinRequest(ids=["tax"], namespace="alice")).pinned == ["tax"]
    assert memory.pin(PinRequest(ids=["loan"], namespace="bob")).pinned == ["loan"]
    unpinned = memory.pin(PinRequest(ids=["tax"], pinned=False, namespace="alice"))
    assert unpinned.pinned == []


def test_a_hit_is_explained_to_who_searched_for_it_alone(memory):
    found = memory.search(SearchRequest(query=QUERY, namespace="alice"))
    hit = found.hits[1]
    told = memory.explain(ExplainRequest(search_id=found.search_id, id=hit.id, namespace="alice"))
    assert (told.rank, told.above) == (2, found.hits[0].id)
    assert hit.id in told.text
    with pytest.raises(QueryError, match="unknown, or too long ago"):
        memory.explain(ExplainRequest(search_id=found.search_id, id=hit.id, namespace="bob"))


def test_searches_too_long_ago_are_forgotten(memory, monkeypatch):
    monkeypatch.setattr("subspace.serve.memory._REMEMBERED", 3)
    first = memory.search(SearchRequest(query=QUERY))
    for _ in range(3):
        memory.search(SearchRequest(like="cake"))
    with pytest.raises(QueryError, match="too long ago"):
        memory.explain(ExplainRequest(search_id=first.search_id, id=first.hits[0].id))


def test_a_memory_for_reading_refuses_every_change(tmp_path, model):
    memory = make_memory(tmp_path, model, read_only=True)
    changes = [
        lambda: memory.add([NewItem(text="a")]),
        lambda: memory.update("cake", UpdateRequest(text="a")),
        lambda: memory.delete(["cake"]),
        lambda: memory.report_use(UseRequest(items={"cake": 1.0})),
        lambda: memory.pin(PinRequest(ids=["cake"])),
        lambda: memory.follow(tmp_path),
        lambda: memory.search(SearchRequest(query=QUERY, preset="auto")),
    ]
    for change in changes:
        with pytest.raises(ReadOnlyError, match="for reading alone"):
            change()
    assert memory.about().items == len(RECORDS)
    memory.close()


def test_threads_lose_no_write_and_meet_no_error(memory):
    """Eight threads add, use, search and remove; what each was answered holds at the end."""
    barrier = threading.Barrier(8)

    def work(number: int) -> set[str]:
        barrier.wait()
        kept = set()
        for step in range(6):
            name = f"{number}-{step}"
            memory.add([NewItem(id=name, text=f"note {name} on baking")])
            memory.search(SearchRequest(query=QUERY, preset="balanced", namespace=str(number)))
            memory.report_use(UseRequest(items={name: 1.0}, namespace=str(number)))
            if step % 3 == 2:
                memory.delete([name])
            else:
                kept.add(name)
        return kept

    with ThreadPoolExecutor(8) as pool:
        kept = set().union(*pool.map(work, range(8)))
    assert set(as_others_see_it(memory)) == kept | {record.id for record in RECORDS}
    assert len(memory.index.blocks.history.log) == 48


def test_a_failing_save_is_told_and_a_later_one_takes_the_change_along(memory, monkeypatch):
    engine = memory.index.blocks.engine
    whole = engine.save

    def full() -> None:
        raise IndexFolderError("cannot write: no space left")

    monkeypatch.setattr(engine, "save", full)
    with pytest.raises(IndexFolderError, match="no space"):
        memory.add([NewItem(id="one", text="one")])
    monkeypatch.setattr(engine, "save", whole)
    memory.add([NewItem(id="two", text="two")])
    assert {"one", "two"} <= set(as_others_see_it(memory))


def test_what_comes_from_the_folder_that_is_followed_is_changed_there_alone(tmp_path, model):
    skills = tmp_path / "skills"
    (skills / "bake").mkdir(parents=True)
    (skills / "bake" / "SKILL.md").write_text("---\nname: bake\n---\nBake bread.\n")
    memory = make_memory(tmp_path, model, followed=True)
    memory.follow(skills)
    changes = [
        lambda: memory.update("bake", UpdateRequest(text="other")),
        lambda: memory.delete(["cake", "bake"]),
        lambda: memory.add([NewItem(id="bake", text="other")]),
        lambda: memory.add([NewItem(id="x", text="x", metadata={"file": "x/SKILL.md"})]),
    ]
    for change in changes:
        with pytest.raises(QueryError, match="change it there"):
            change()
    memory.update("cake", UpdateRequest(text="other"))
    assert not memory.follow(skills)
    assert {"cake", "bake"} <= set(as_others_see_it(memory))
    memory.close()


def test_an_update_that_changes_nothing_is_refused(memory):
    with pytest.raises(QueryError, match="new text, new metadata"):
        memory.update("cake", UpdateRequest())


def test_hits_that_are_remembered_are_bounded_in_all(memory, monkeypatch):
    monkeypatch.setattr("subspace.serve.memory._REMEMBERED_HITS", 25)
    found = [memory.search(SearchRequest(query=QUERY, k=10)) for _ in range(3)]
    for search, known in zip(found, (False, True, True), strict=True):
        request = ExplainRequest(search_id=search.search_id, id=search.hits[0].id)
        if known:
            assert memory.explain(request).rank == 1
        else:
            with pytest.raises(QueryError, match="too long ago"):
                memory.explain(request)


def test_a_page_of_long_texts_ends_early_and_the_next_goes_on(memory, monkeypatch):
    monkeypatch.setattr("subspace.serve.memory._PAGE_CHARACTERS", 150)
    seen, after = [], None
    while True:
        page = memory.list_items(after=after, limit=100)
        assert len(page.items) < len(RECORDS)
        seen += [item.id for item in page.items]
        if page.next_after is None:
            break
        after = page.next_after
    assert seen == sorted(record.id for record in RECORDS)


def test_texts_of_hits_are_cut_where_it_is_asked(memory):
    whole = memory.search(SearchRequest(query=QUERY, characters=None)).hits[0].text
    cut = memory.search(SearchRequest(query=QUERY, characters=20)).hits[0].text
    assert len(cut) <= 20 < len(whole)
    assert whole.startswith(cut.rstrip("…"))


@pytest.mark.parametrize("made_anew", ["index", "log"])
def test_an_index_or_a_log_that_is_made_anew_is_opened_again(made_anew, tmp_path, model):
    first = make_memory(tmp_path, model)
    folder, log = tmp_path / "index", tmp_path / "usage.db"

    def reopen() -> Index:
        return Index.open(folder, model, usage=log, bandit=first.index.bandit)

    memory = Memory(first.index, reopen=reopen)
    memory.report_use(UseRequest(items={"cake": 1.0}))
    if made_anew == "index":
        Index.create(folder, model, RECORDS[:3]).close()  # centred on other texts
    else:
        for path in tmp_path.glob("usage.db*"):
            path.unlink()
    assert memory.about().items == (3 if made_anew == "index" else len(RECORDS))
    memory.report_use(UseRequest(items={RECORDS[0].id: 1.0}))
    memory.add([NewItem(id="new", text="new")])
    assert "new" in as_others_see_it(memory)
    assert len(memory.index.blocks.history.log) == (2 if made_anew == "index" else 1)
    memory.close()


def test_what_each_namespace_likes_is_learned_shown_and_forgotten(tmp_path, model):
    plain = replace(model, default_weights={name: float(name == "topic") for name in model.layout})
    memory = make_memory(tmp_path, plain, learn_liked=True)
    z = memory.index.blocks.engine.fetch([record.id for record in RECORDS])
    style = z.vectors[:, model.layout.slice("style")]
    side = np.linalg.svd(style - style.mean(axis=0))[0][:, 0] > 0
    likes = {record.id: float(one) for record, one in zip(z.documents, side, strict=True)}
    asked = SearchRequest(query=QUERY, toward={"liked": 2}, k=12, namespace="alice")
    assert "liked" in memory.about().directions
    with pytest.raises(QueryError, match="so far: no hits of searches were rated"):
        memory.search(asked)
    searches = []
    for query in likes:
        found = memory.search(SearchRequest(query=query, namespace="alice", k=12))
        searches.append(found.search_id)
        rated = {hit.id: likes[hit.id] for hit in found.hits}
        memory.report_use(UseRequest(items=rated, search_id=found.search_id, namespace="alice"))
    liked = memory.search(asked).hits
    assert sum(likes[hit.id] for hit in liked[:4]) >= 3
    told = memory.learned(LearnedRequest(namespace="alice"))
    assert told.learned
    assert list(told.ratings) == searches
    bob = memory.learned(LearnedRequest(namespace="bob"))
    assert (bob.learned, bob.ratings) == (False, {})
    plain_hits = memory.search(SearchRequest(query=QUERY, namespace="alice", k=12)).hits
    assert [hit.score for hit in plain_hits] == [h.score for h in memory.index.search(QUERY, k=12)]
    # What is forgotten is neither learned from nor counted by importance.
    counted = SearchRequest(query=QUERY, preset="pure_importance", namespace="alice")
    before = [hit.score for hit in memory.search(counted).hits]
    memory.forget(ForgetRequest(search_ids=searches, namespace="alice"))
    assert [hit.score for hit in memory.search(counted).hits] != before
    assert memory.learned(LearnedRequest(namespace="alice")).ratings == {}
    with pytest.raises(QueryError, match="nothing can be said of what is 'liked'"):
        memory.search(asked)
    memory.close()


def test_what_is_liked_follows_changes_of_the_rated_items(tmp_path, model):
    memory = make_memory(tmp_path, model, learn_liked=True)
    names = [record.id for record in RECORDS]
    for n, name in enumerate(names):
        rated = {one: float(names.index(one) % 2) for one in np.roll(names, n)[:4].tolist()}
        memory.report_use(UseRequest(items=rated, search_id=f"q-{name}"))

    def told() -> dict[str, set[str]]:
        return {
            query: set(hits) for query, hits in memory.learned(LearnedRequest()).ratings.items()
        }

    first = memory.liked.of(memory.index, namespace="")
    assert any("cake" in hits for hits in told().values())
    memory.add([NewItem(id="other", text="a text that nobody has rated")])
    assert memory.liked.of(memory.index, namespace="") is first  # nothing of it has changed
    memory.delete(["cake"])
    assert not any("cake" in hits for hits in told().values())
    second = memory.liked.of(memory.index, namespace="")
    memory.update("bread", UpdateRequest(text="another text"))
    assert memory.liked.of(memory.index, namespace="") is not second
    memory.delete(names[:1] + [name for name in names[1:] if name != "cake"])
    assert "none of the texts that were rated is there" in memory.learned(LearnedRequest()).reason
    memory.close()


def test_ratings_that_do_not_tell_yet_are_shown_all_the_same(tmp_path, model):
    """Who wants to take one back has to see it."""
    memory = make_memory(tmp_path, model, learn_liked=True)
    memory.report_use(UseRequest(items={"cake": 1.0, "tax": 0.0}, search_id="q"))
    found = memory.learned(LearnedRequest())
    assert "2 ratings" in found.reason
    assert found.ratings == {"q": {"cake": 1.0, "tax": 0.0}}
    assert memory.forget(ForgetRequest(search_ids=["q"])).forgotten == 2
    assert memory.learned(LearnedRequest()).ratings == {}
    memory.close()


def test_nothing_is_learned_unless_it_is_asked_for(memory, tmp_path):
    with pytest.raises(QueryError, match="no direction for 'liked'"):
        memory.search(SearchRequest(query=QUERY, toward={"liked": 1}))
    with pytest.raises(ConfigError, match="does not learn what is liked"):
        memory.learned(LearnedRequest())
    model = memory.index.model
    head = LinearHead(np.ones((1, model.layout.dim), np.float32), bias=None, classes=None)
    knows = replace(model, heads={"liked": head})
    with pytest.raises(ConfigError, match="has learned what is 'liked' already"):
        make_memory(tmp_path / "other", knows, learn_liked=True)
