"""An index that follows a folder holds what lies there and what was added otherwise, no more."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from models import DIM, make_model

from subspace.data.records import Record
from subspace.errors import EngineError, IndexFolderError, RecordError
from subspace.retrieval import Changes, Index, follow_folder
from subspace.retrieval.follow import find_former

MODEL = make_model()
COPPER = "# Slugs\n\nCopper."


def encode(texts: Sequence[str]) -> np.ndarray:
    """An encoder that needs no model: a raw vector drawn for each text."""
    seeds = [int.from_bytes(sha256(text.encode()).digest()[:4]) for text in texts]
    drawn = [np.random.default_rng(seed).normal(size=DIM) for seed in seeds]
    return np.array(drawn, dtype=np.float32).reshape(len(texts), DIM)


class Counting:
    """The same encoder, which counts what it is given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return encode(texts)


def put(folder: Path, file: str, content: str | bytes) -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def held(index: Index) -> dict[str, tuple[str, dict]]:
    """Text and metadata by id; every vector is that of its text."""
    records = index.list()
    vectors = index.blocks.engine.fetch([record.id for record in records]).vectors
    wanted = index.model.project(encode([record.text for record in records])).array
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    return {record.id: (record.text, dict(record.metadata)) for record in records}


@pytest.fixture
def index(tmp_path):
    with Index.create(tmp_path / "index", MODEL) as index:
        yield index


@pytest.fixture
def notes(tmp_path) -> Path:
    folder = tmp_path / "notes"
    put(folder, "slugs.md", COPPER)
    put(folder, "git/SKILL.md", "---\nname: git\ndescription: Commits.\nn: 1\n---\nbody")
    put(folder, "team/deploy/SKILL.md", "---\nname: deploy\n---\nbody")
    return folder


def test_only_what_is_new_or_has_another_text_is_encoded(index, notes):
    counting = Counting()
    first = follow_folder(index, notes, encode=counting)
    assert first == Changes(added=("git", "slugs", "team/deploy"), encoded=3)
    assert first
    assert len(counting.texts) == 3

    again = follow_folder(index, notes, encode=counting)
    assert again == Changes(unchanged=3)
    assert not again
    assert len(counting.texts) == 3

    put(notes, "slugs.md", COPPER + " Beer.")
    put(notes, "git/SKILL.md", "---\nname: git\ndescription: Commits.\nn: true\n---\nbody")
    put(notes, "new.md", "# New")
    shutil.rmtree(notes / "team")
    before = index.blocks.engine.fetch(["git"]).vectors
    changes = follow_folder(index, notes, encode=counting)
    assert changes == Changes(
        added=("new",), changed=("git", "slugs"), removed=("team/deploy",), encoded=2
    )
    assert changes.say() == "1 added, 2 changed, 1 removed, 0 unchanged (2 encoded)"
    assert sorted(counting.texts[3:]) == ["# New", COPPER + " Beer."]
    np.testing.assert_array_equal(index.blocks.engine.fetch(["git"]).vectors, before)
    assert held(index)["git"][1]["n"] is True


def test_a_file_that_moves_gives_a_record_of_the_new_place(index, notes):
    follow_folder(index, notes, encode=encode)
    put(notes, "slugs/SKILL.md", COPPER)
    (notes / "slugs.md").unlink()
    counting = Counting()
    assert follow_folder(index, notes, encode=counting).changed == ("slugs",)
    assert counting.texts == []  # the same text under the same id
    assert held(index)["slugs"][1]["file"] == "slugs/SKILL.md"


def test_what_was_added_otherwise_is_neither_replaced_nor_removed(index, notes):
    mine = [
        Record(id="slugs", text="mine", metadata={"kind": "memory"}),
        Record(id="other", text="mine, too", metadata={"file": "elsewhere.md"}),
    ]
    index.add(mine, vectors=encode([record.text for record in mine]))
    changes = follow_folder(index, notes, encode=encode)
    assert changes.added == ("git", "team/deploy")
    (problem,) = changes.problems
    assert problem.startswith(f"{notes / 'slugs.md'}: the index has a text 'slugs'")
    (notes / "slugs.md").unlink()
    assert not follow_folder(index, notes, encode=encode).problems
    there = held(index)
    assert {name: there[name] for name in ("slugs", "other")} == {
        record.id: (record.text, record.metadata) for record in mine
    }


def test_what_others_change_while_texts_are_encoded_is_not_lost(index, notes):
    follow_folder(index, notes, encode=encode)
    put(notes, "new.md", "# New")
    (notes / "team/deploy/SKILL.md").unlink()
    mine = dict.fromkeys(("new", "team/deploy"), "mine")

    def encode_meanwhile(texts: Sequence[str]) -> np.ndarray:
        index.delete(["git"])
        records = [Record(id=name, text=text) for name, text in mine.items()]
        index.add(records, vectors=encode(list(mine.values())))
        return encode(texts)

    changes = follow_folder(index, notes, encode=encode_meanwhile)
    assert changes.added == ("git",)
    assert changes.removed == ()
    assert "the index has a text 'new'" in changes.problems[0]
    assert {name: text for name, (text, _) in held(index).items() if name in mine} == mine
    assert held(index).keys() == {"git", "slugs", *mine}


def test_a_broken_file_keeps_its_former_state_and_strict_refuses_everything(index, notes):
    follow_folder(index, notes, encode=encode)
    before = held(index)
    put(notes, "slugs.md", b"\xff")
    put(notes, "new.md", "# New")
    with pytest.raises(RecordError, match=r"slugs\.md:1: is not UTF-8"):
        follow_folder(index, notes, encode=encode, strict=True)
    assert held(index) == before
    changes = follow_folder(index, notes, encode=encode)
    assert changes.added == ("new",)
    assert changes.say().endswith("; 1 problem")
    assert {name: held(index)[name] for name in before} == before
    (notes / "slugs.md").unlink()
    assert follow_folder(index, notes, encode=encode).removed == ("slugs",)


def test_a_folder_that_is_gone_empty_or_away_removes_nothing(index, notes, tmp_path, caplog):
    away = tmp_path / "away"
    put(away, "b.md", "# B")
    (notes / "disk").symlink_to(away)
    assert "disk/b" in follow_folder(index, notes, encode=encode).added
    before = held(index)
    away.rename(tmp_path / "unmounted")
    assert not follow_folder(index, notes, encode=encode)  # the link leads to nothing now
    assert "disk is a link to nothing" in caplog.text
    notes.rename(tmp_path / "moved")
    with pytest.raises(RecordError, match="cannot be read"):
        follow_folder(index, notes, encode=encode)
    notes.mkdir()
    with pytest.raises(RecordError, match="left as it is"):
        follow_folder(index, notes, encode=encode)
    put(notes, "blank.md", "")
    with pytest.raises(RecordError, match="left as it is"):
        follow_folder(index, notes, encode=encode)
    assert held(index) == before


def test_the_models_own_encoder_encodes_if_none_is_given(model, tmp_path, notes):
    with Index.create(tmp_path / "real", model) as index:
        assert follow_folder(index, notes).encoded == 3
        assert not follow_folder(index, notes)
        assert index.search("copper", k=1)


def test_what_an_index_of_a_folder_holds_is_found_before_it_is_built_again(notes, tmp_path):
    target = tmp_path / "index"
    assert find_former(target) is None
    mine = Record(id="memory", text="mine")
    with Index.create(target, MODEL) as index:
        index.add([mine], vectors=encode([mine.text]))
    assert find_former(target).others == (mine,)
    with Index.open(target, MODEL) as index:
        follow_folder(index, notes, encode=encode)
    former = find_former(target)
    assert former.projection_digest == MODEL.projection.digest
    assert former.others == (mine,)
    note = Record(id="slugs", text="x", metadata={"file": "slugs.md"})
    assert former.join([note], folder=notes) == [note, mine]
    with pytest.raises(RecordError, match=r"memory\.md: the index has a text 'memory'"):
        former.join([replace(note, id="memory", metadata={"file": "memory.md"})], folder=notes)


def test_only_an_index_that_is_not_there_is_none(tmp_path):
    """Counter-check: one that is damaged, or a server that is away, may hold texts to be kept."""
    Index.create(tmp_path / "empty", MODEL).close()
    assert find_former(tmp_path / "empty") is None
    assert find_former(tmp_path / "nowhere") is None
    record = Record(id="memory", text="mine")
    with Index.create(tmp_path / "index", MODEL, [record], vectors=encode([record.text])):
        pass
    (vectors,) = (tmp_path / "index").glob("vectors*")
    vectors.write_bytes(b"")
    with pytest.raises(IndexFolderError, match="damaged"):
        find_former(tmp_path / "index")
    with pytest.raises(EngineError):
        find_former("postgresql://nobody@127.0.0.1:1/none#notes")


# What the folders of the random world hold: content, and the text and metadata that it gives.
GOOD = {
    COPPER: (COPPER, {"title": "Slugs"}),
    "---\nname: bee\nn: 1\n---\nBuzz.": ("bee\n\nBuzz.", {"name": "bee", "n": 1}),
    "---\nname: bee\nn: 2\n---\nBuzz.": ("bee\n\nBuzz.", {"name": "bee", "n": 2}),
    "---\nname: bee\nn: 2\n---\nSting.": ("bee\n\nSting.", {"name": "bee", "n": 2}),
}
BROKEN = (b"\xff", "---\nunclosed")
CONTENTS = st.sampled_from([*GOOD, *BROKEN, ""])
FILES = st.sampled_from(
    [
        *("a.md", "a/SKILL.md", "a/b.md", "a/b/SKILL.md", "a/b/c.md", "b.md", "c/d.md"),
        *(".hidden.md", "c/.git/x.md", "node_modules/x.md", "c/d.txt"),
    ]
)
IDS = st.sampled_from(["a", "a/b", "b", "c/d", "memory"])
OUTSIDE = (".hidden.md", "c/.git/x.md", "node_modules/x.md", "c/d.txt")


class Followed(RuleBasedStateMachine):
    """A folder, an index, and two dictionaries: what came from the folder, and what did not."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.root = Path(self.place.name, "notes")
        self.root.mkdir()
        self.target = Path(self.place.name, "index")
        self.index = Index.create(self.target, MODEL)
        self.files: dict[str, str | bytes] = {}
        self.followed: dict[str, tuple[str, tuple[str, dict]]] = {}
        self.mine: dict[str, tuple[str, dict]] = {}

    def teardown(self) -> None:
        self.index.close()
        self.place.cleanup()

    @rule(written=st.dictionaries(FILES, CONTENTS | st.none(), min_size=1), then=st.booleans())
    def change(self, written: dict[str, str | bytes | None], then: bool) -> None:
        """Writes files and removes those without a content; then, perhaps, follows."""
        for file, content in written.items():
            if content is not None:
                put(self.root, file, content)
                self.files[file] = content
            elif self.files.pop(file, None) is not None:
                (self.root / file).unlink()
        if then:
            self.follow()

    @rule(name=IDS, text=st.sampled_from(["mine", COPPER]))
    def add_by_hand(self, name: str, text: str) -> None:
        if name not in self.followed:
            self.index.add([Record(id=name, text=text)], vectors=encode([text]))
            self.mine[name] = (text, {})

    @rule(name=IDS)
    def delete(self, name: str) -> None:
        """Also what came from a file, which brings it back."""
        there = name in self.mine or name in self.followed
        assert self.index.delete([name]) == there
        self.mine.pop(name, None)
        self.followed.pop(name, None)

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = Index.open(self.target, MODEL)

    @rule()
    def follow(self) -> None:
        items = self._items()
        broken = {file for file, content in items if content in BROKEN}
        names = [name_of(file) for file, _ in items]
        broken |= {file for file, _ in items if names.count(name_of(file)) > 1}
        good = {
            name_of(file): (file, (GOOD[content][0], {"file": file, **GOOD[content][1]}))
            for file, content in items
            if file not in broken and content in GOOD
        }
        if not good and not broken:
            with pytest.raises(RecordError):
                follow_folder(self.index, self.root, encode=encode)
            return
        kept = {name: one for name, one in self.followed.items() if one[0] in broken}
        wanted = kept | {name: one for name, one in good.items() if name not in self.mine}
        counting = Counting()
        changes = follow_folder(self.index, self.root, encode=counting)
        was = self.followed
        assert changes.added == tuple(sorted(wanted.keys() - was.keys()))
        assert changes.removed == tuple(sorted(was.keys() - wanted.keys()))
        assert changes.changed == tuple(
            sorted(name for name in wanted.keys() & was.keys() if wanted[name] != was[name])
        )
        assert sorted(counting.texts) == sorted(
            {
                text
                for name, (_, (text, _)) in wanted.items()
                if name not in was or was[name][1][0] != text
            }
        )
        assert bool(changes.problems) == bool(broken or good.keys() & self.mine.keys())
        self.followed = wanted
        again = follow_folder(self.index, self.root, encode=counting)
        assert not again
        assert again.encoded == 0

    @invariant()
    def holds_both(self) -> None:
        assert held(self.index) == self.mine | {n: one for n, (_, one) in self.followed.items()}

    def _items(self) -> list[tuple[str, str | bytes]]:
        """Files of skills and notes: not hidden, and not other files of a skill."""
        skills = [file.removesuffix("SKILL.md") for file in self.files if "SKILL.md" in file]
        return [
            (file, content)
            for file, content in self.files.items()
            if file not in OUTSIDE
            and (file.endswith("/SKILL.md") or not any(file.startswith(one) for one in skills))
        ]


def name_of(file: str) -> str:
    return file.removesuffix("/SKILL.md").removesuffix(".md")


TestFollowed = Followed.TestCase
TestFollowed.settings = settings(max_examples=50, stateful_step_count=15, deadline=None)
