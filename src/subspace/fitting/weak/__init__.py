"""Weak supervision: learns style, complexity and specificity from texts without labels.

It has two sources, and both work for any text:

- features: numbers counted in the text (function words, punctuation, word frequency);
- rewrites: the same text with one factor changed by a rule and the content kept.
"""

from subspace.fitting.weak.features import text_features
from subspace.fitting.weak.rewrites import (
    AS_WRITTEN,
    RULES,
    Rewrite,
    Rule,
    rewrite_record,
    rewrite_text,
)

__all__ = [
    "AS_WRITTEN",
    "RULES",
    "Rewrite",
    "Rule",
    "rewrite_record",
    "rewrite_text",
    "text_features",
]
