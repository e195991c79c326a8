"""Weak supervision: what can be known of a text's style, complexity and specificity unlabelled.

Two kinds of evidence, both for any text of any corpus:

- measures: numbers counted on the text itself (function words, punctuation, word frequency);
- rewrites: the same text with one factor changed by a rule and its content left alone.
"""

from subspace.fitting.weak.features import MEASURES, measure_text, measure_texts
from subspace.fitting.weak.rewrites import (
    RULES,
    Rewrite,
    Rule,
    rewrite_records,
    rewrite_text,
)

__all__ = [
    "MEASURES",
    "RULES",
    "Rewrite",
    "Rule",
    "measure_text",
    "measure_texts",
    "rewrite_records",
    "rewrite_text",
]
