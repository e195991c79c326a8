"""Features order texts as their names say, for any text."""

import numpy as np
import pytest

from subspace.data.records import Record
from subspace.fitting.weak.feature_scores import score_text
from subspace.labelling.feature_annotator import REGISTERS, FeatureAnnotator, register_of

PLAIN = "The dog ran. It was fun. We had a good day."
HARD = (
    "Notwithstanding considerable jurisprudential controversy, the constitutional tribunal "
    "promulgated an unprecedented interpretation of extraterritorial jurisdiction."
)
SPECIFIC = "Anna Bell of East Dundee sold 27 pears to Mark Ruiz at 5 pm on 3 March 2012."
GENERAL = "People usually say many things about something, and others often think the same way."
CHATTY = "Yeah, I don't know, you guys! I'm just gonna get my stuff, okay?"
STIFF = "The implementation of the regulation of the allocation of resources is the subject."


def test_features_tell_the_plain_from_the_hard_the_specific_from_the_general():
    assert score_text(HARD)["complexity"] > score_text(PLAIN)["complexity"] + 1
    assert score_text(SPECIFIC)["specificity"] > score_text(GENERAL)["specificity"] + 1
    assert register_of(score_text(CHATTY)["style"]) == "informal"
    assert register_of(score_text(STIFF)["style"]) == "formal"


def test_a_score_is_the_mean_of_signed_deviations():
    text = "The dog ran. It was fun."
    words = ["the", "dog", "ran", "it", "was", "fun"]
    from wordfreq import zipf_frequency

    content = np.mean([zipf_frequency(word, "en") for word in ("dog", "ran", "fun")])
    sentence = np.log(len(words) / 2)
    slow = ((sentence - 2.77) / 0.56 + (0 - 0.199) / 0.118 - (content - 4.637) / 0.472) / 3
    assert score_text(text)["complexity"] == pytest.approx(slow)


def test_registers_are_ordered():
    levels = [register_of(score) for score in np.linspace(-2, 2, 41)]
    assert list(dict.fromkeys(levels)) == list(REGISTERS)
    assert sorted(levels, key=REGISTERS.index) == levels


@pytest.mark.parametrize("text", ["...", "?", "1", "你好", "a" * 5000, "\t\n x"])
def test_any_text_can_be_labelled(text):
    (found,) = FeatureAnnotator().annotate([Record(id="a", text=text)])
    assert set(found) == set(FeatureAnnotator.factors) == {"complexity", "specificity", "style"}
    assert np.isfinite(found["complexity"])
