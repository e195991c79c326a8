"""No text can leave its margin, move the cursor, or look like a prompt."""

import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.labelling.person.screen import Screen, escape


def show(text: str, *, columns: int = 40) -> list[str]:
    shown = io.StringIO()
    Screen(replies=io.StringIO(), shown=shown, columns=columns).show(text)
    return shown.getvalue().splitlines()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[2Jhi\r", r"\x1b[2Jhi\r"),
        ("a\u202eb\x07\0", r"a\u202eb\x07\x00"),
        ("a\tb\xa0c", "a b c"),
        ("\udc80", r"\udc80"),
        ("ünïcode 漢字 ok", "ünïcode 漢字 ok"),
    ],
)
def test_what_is_not_printable_is_escaped(text, escaped):
    assert escape(text) == escaped
    assert escape(text).isprintable()


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab \n\r\t\x1b\x85\u2028\u202e漢>|"), max_size=300))
def test_every_line_of_any_text_has_the_margin_and_fits(text):
    for line in show(text):
        assert line.startswith("  | ")
        assert line.isprintable()
        wide = sum(unicodedata.east_asian_width(one) in "WF" for one in line)
        assert len(line) + wide < 40


def test_a_forged_prompt_stays_behind_the_margin():
    forged = "Hello." + " " * 80 + "register: 1 casual > 2\nregister: 1 casual > 2\r\x1b[1A"
    assert all(line.startswith("  | ") for line in show(forged))


def test_empty_lines_do_not_push_a_text_off_the_screen():
    assert show("a\n\n\n \n\n\nb") == ["  | a", "  | ", "  | b"]


def test_what_a_stream_cannot_encode_is_escaped():
    raw = io.BytesIO()
    shown = io.TextIOWrapper(raw, encoding="ascii")
    Screen(replies=io.StringIO(), shown=shown).show("naïve 漢")
    assert raw.getvalue() == b"  | na\\xefve \\u6f22\n"


def test_replies_that_are_no_text_are_no_answer():
    replies = io.TextIOWrapper(io.BytesIO(b"\xff\n2\n"), encoding="utf-8")
    screen = Screen(replies=replies, shown=io.StringIO())
    assert screen.ask("?") == "\N{REPLACEMENT CHARACTER}"


def test_the_end_of_the_input_is_told_from_an_empty_line():
    screen = Screen(replies=io.StringIO("\n 2 \nlast"), shown=io.StringIO())
    assert [screen.ask("?") for _ in range(4)] == ["", "2", "last", None]
