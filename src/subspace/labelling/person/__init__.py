"""Labels and comparisons by a person in a terminal."""

from subspace.labelling.person.by_person import compare_by_person, label_by_person
from subspace.labelling.person.interview import Interview
from subspace.labelling.person.screen import Screen

__all__ = ["Interview", "Screen", "compare_by_person", "label_by_person"]
