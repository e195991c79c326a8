"""Draw docs/query.png: the hits of one query, plain, toward simpler, harder, more specific texts.

Run from the repository's root: `python docs/make_query_picture.py`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import matplotlib.pyplot as plt

import subspace

QUERY = "How do astronomers find new planets?"
SEARCHES = {  # title -> what `toward` asks for
    "plain search": None,
    "simpler": "complexity=-1",
    "harder": "complexity=1",
    "simpler, more specific": "complexity=-1,specificity=1",
}
HITS = 3


def main() -> None:
    """Index the corpus, search it in every way, draw the hits side by side."""
    records = subspace.read_records("data/factorial")
    factors = {record.id: record.factors for record in records}
    figure, axes = plt.subplots(1, len(SEARCHES), figsize=(14, 4.7))
    figure.suptitle(f"“{QUERY}”", fontsize=12, fontstyle="italic")
    with TemporaryDirectory() as folder:
        index = subspace.Index.create(Path(folder) / "index", subspace.load("minilm"), records)
        found = {
            title: index.search(QUERY, k=HITS, toward=toward) for title, toward in SEARCHES.items()
        }
        index.close()
    for axis, (title, hits) in zip(axes, found.items(), strict=True):
        axis.axis("off")
        axis.set_title(title, fontsize=11, fontweight="bold", loc="left")
        axis.text(0, 1.0, SEARCHES[title] or "", fontsize=8, family="monospace", va="top")
        for place, hit in enumerate(hits):
            of = factors[hit.id]
            label = f"complexity {of['complexity']:.0f}, specificity {of['specificity']:.0f} of 3"
            height = 0.92 - place / HITS
            axis.text(0, height, label, fontsize=8, color="tab:blue", va="top")
            axis.text(0, height - 0.05, fill(hit.text, 46), fontsize=8.5, va="top")
    figure.tight_layout()
    figure.savefig(Path("docs/query.png"), dpi=110)


if __name__ == "__main__":
    main()
