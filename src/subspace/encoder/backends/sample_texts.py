"""Texts by which a converted model is compared with torch."""

from collections.abc import Sequence

# Short and long ones, of several scripts and kinds; the longest are cut at what most encoders read.
SAMPLES: Sequence[str] = (
    "a",
    ".",
    "Bread.",
    "how do i reset the password of my account",
    "The committee has not yet decided whether the bridge will be repaired before the winter.",
    "def area(width, height):\n    return width * height",
    "\U0001f642 \U0001f642 so good \U0001f389\U0001f3fd!!!",
    "\u0645\u062a\u0649 \u064a\u0641\u062a\u062d \u0627\u0644\u0645\u062a\u062d\u0641\u061f",
    "\u05de\u05ea\u05d9 \u05e0\u05e4\u05ea\u05d7 \u05d4\u05de\u05d5\u05d6\u05d9\u05d0\u05d5\u05df",
    "\u535a\u7269\u9928\u306f\u4f55\u6642\u306b\u958b\u304d\u307e\u3059\u304b",
    "In 1911 the physicist Heike Kamerlingh Onnes cooled mercury to 4.2 kelvin and saw its "
    "electrical resistance vanish; he called what he had found superconductivity.",
    "Water the seedlings every other day, and keep them out of the midday sun. " * 12,
    "One after another the boats came back into the harbour, low in the water, with lamps lit. "
    * 40,
)
# The text by which a model is checked whenever it is opened.
SHORT = 3
# Those by which it is timed.
SENTENCE, PARAGRAPH = 4, -2
