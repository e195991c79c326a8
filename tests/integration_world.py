"""Five texts with metadata, and the widths of a model's blocks, for LangChain and LlamaIndex."""

from subspace.data.records import Record

WIDTHS = {"topic": 6, "style": 4, "complexity": 4}
RECORDS = tuple(
    Record(id=name, text=text, metadata=metadata)
    for name, text, metadata in (
        ("bread", "knead the dough, let it rise, then bake the loaf", {"kind": "food", "n": 1}),
        ("soup", "simmer the carrots in broth until they are soft", {"kind": "food", "n": 2}),
        ("race", "WOW what a race!!! he ran SO fast", {"kind": "sport", "n": 3}),
        ("tennis", "she lost the first set but won the final", {"kind": "sport", "n": 4}),
        ("tax", "the taxpayer shall file a return by 30 April", {"tags": ["law", {"of": 1}]}),
    )
)
QUERY = "how do I bake a loaf of bread"
