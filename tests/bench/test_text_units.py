"""Units cover what a document says, in order, and every document has one."""

import sys
from itertools import pairwise

import pytest

from subspace.bench.text_units import (
    first_paragraph,
    first_sentence,
    paragraphs,
    sentences,
    title,
    whole,
    windows,
)
from subspace.data.records import Record
from subspace.data.retrieval_sets import read_documents
from subspace.errors import ConfigError

BODY = "Dr. Ada paid 3.50 for it. She left at noon! Did she? Yes. Nobody saw her."
TITLED = Record(id="a", text=f"The end. {BODY}", title="The end")
CUTS = [whole, sentences, paragraphs, title, first_sentence, first_paragraph]


def test_sentences_are_not_cut_at_every_full_stop():
    assert sentences(TITLED) == [
        "The end",
        "Dr. Ada paid 3.50 for it.",
        "She left at noon!",
        "Did she?",
        "Yes.",
        "Nobody saw her.",
    ]


def test_a_title_is_told_from_the_text_as_it_is_read(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"_id": "a", "title": "The end", "text": "{BODY}"}}\n')
    (document,) = read_documents(path)
    assert (document.title, document.text) == (TITLED.title, TITLED.text)


def test_a_document_is_read_up_to_four_ends():
    run = "The end. Dr. Ada paid 3.50 for it. She left at noon! Did she?"
    assert title(TITLED) == ["The end"]
    assert first_sentence(TITLED) == ["The end. Dr. Ada paid 3.50 for it."]
    assert first_paragraph(TITLED) == [run]
    assert whole(TITLED) == [TITLED.text]
    assert paragraphs(TITLED) == [run, "Yes. Nobody saw her."]


def test_blank_lines_separate_paragraphs_where_there_are_any():
    text = "One. Two.\nStill one.\n\nThree.\n \n\nFour. Five. Six. Seven."
    assert paragraphs(Record(id="a", text=text)) == [
        "One. Two. Still one.",
        "Three.",
        "Four. Five. Six. Seven.",
    ]


def test_without_a_title_the_first_sentence_stands_for_it():
    document = Record(id="a", text=BODY)
    assert title(document) == first_sentence(document) == ["Dr. Ada paid 3.50 for it."]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 30, 31])
def test_windows_are_of_one_length_overlap_and_leave_nothing_out(count):
    words = [f"w{n}" for n in range(count)]
    pieces = [piece.split() for piece in windows(Record(id="a", text=" ".join(words)), words=8)]
    assert all(len(piece) == min(8, count) for piece in pieces)
    starts = [words.index(piece[0]) for piece in pieces]
    assert starts[0] == 0
    assert pieces[-1][-1] == words[-1]
    steps = [after - before for before, after in pairwise(starts)]
    assert all(0 < step <= 6 for step in steps)
    assert all(step == 6 for step in steps[:-1])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    "document",
    [
        Record(id="a", text="...!? --"),
        Record(id="a", text="Title", title="Title"),
        Record(id="a", text="Title. ?!", title="Title"),
        Record(id="a", text="?!\n\n...\n\n--"),
    ],
)
def test_a_document_without_sentences_is_a_unit_as_it_stands(cut, document):
    pieces = cut(document)
    assert len(pieces) == 1
    assert pieces[0] in (document.text, document.title)


def test_pieces_that_say_nothing_are_no_units():
    assert sentences(Record(id="a", text="Yes. *** ... No.")) in (
        ["Yes.", "No."],
        ["Yes.", "*** ... No."],
    )
    assert paragraphs(Record(id="a", text="Yes.\n\n***\n\nNo.")) == ["Yes.", "No."]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(ConfigError, match=r"pip install 'subspace-embeddings\[protocols\]'"):
        sentences(TITLED)
    assert whole(TITLED) == [TITLED.text]
