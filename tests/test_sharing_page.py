"""What the page on sharing shows is what happens: every block of it runs, against a hub's stub."""

import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import FEW_SCENES, ROOT, lay_out_project
from stub_hub import serve_to

from subspace.cli import main

EVERY = 20  # of the texts one
PAGE = (ROOT / "docs" / "sharing.md").read_text(encoding="utf-8")
# After the page: what a store and a retriever find is what the vectors say.
CHECKS = """
import json

import numpy as np

mixed = SentenceTransformer("runs/st-mixed")
many = [line["text"] for line in map(json.loads, open("texts.jsonl"))]
assert len(many) > 10
store = InMemoryVectorStore.from_texts(many, Blocks("runs/st-mixed"))
found = store.as_retriever(search_kwargs={"k": 5}).invoke("growing vegetables")
scores = mixed.encode_document(many) @ mixed.encode_query("growing vegetables")
assert [hit.page_content for hit in found] == [many[i] for i in np.argsort(-scores)[:5]]

whole = model.encode_document(many)
rows = [{"text": text, "vector": vector} for text, vector in zip(many, whole)]
table = lancedb.connect("runs/lance").create_table("many", rows)
hits = table.search(queries[0]).distance_type("cosine").limit(5).to_list()
scores = whole @ queries[0]
assert [hit["text"] for hit in hits] == [many[i] for i in np.argsort(-scores)[:5]]
np.savez("seen.npz", whole=whole, mixed=mixed.encode_document(many))
"""


def run_shell(code: str) -> None:
    """Does what a shell would; `subspace` runs in this process, which has imported all it needs."""
    lines = iter(code.splitlines())
    for line in lines:
        written = re.fullmatch(r"cat > (\S+) <<END", line)
        if written:
            Path(written[1]).write_text("\n".join(iter(lines.__next__, "END")), encoding="utf-8")
        elif line:
            program, *arguments = shlex.split(line)
            assert program == "subspace", line
            assert main(arguments) == 0, line


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A folder in which every block of the page has run, in the order of reading."""
    folder = tmp_path_factory.mktemp("shared")
    lay_out_project(folder, scenes=FEW_SCENES)
    lines = (folder / "data/factorial/records.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "texts.jsonl").write_text("\n".join(lines[::EVERY]) + "\n", encoding="utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)
    shell = "\n".join(code for language, code in blocks if language == "sh")
    python = "\n".join(code for language, code in blocks if language == "python")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that the page shows
        patch.chdir(folder)
        with serve_to(patch, cache=folder / "hf") as hub:
            run_shell(shell)
            exec(compile(python + CHECKS, "sharing.md", "exec"), {})
        assert hub.private == {"me/demo": True}
    return folder


def test_every_block_of_the_page_runs(shared):
    assert (shared / "runs" / "copy" / "model.safetensors").is_file()


def test_the_card_has_the_licence_and_the_figures(shared):
    card = (shared / "runs" / "shared" / "README.md").read_text(encoding="utf-8")
    assert "| factorial | MIT | the authors of subspace |" in card
    assert "### In-corpus, linear probe" in card
    assert "was not read on corpora that it was not fitted on" in card


def test_the_exported_vectors_are_those_of_embed(shared):
    """A retriever and a store have searched them: see what the page's Python was followed by."""
    with np.load(shared / "runs" / "blocks.npz") as embedded, np.load(shared / "seen.npz") as seen:
        np.testing.assert_allclose(seen["whole"], embedded["embeddings"][::EVERY], atol=1e-5)
        blocks = embedded["embeddings"][::EVERY]
        topic, style = blocks[:, :64], blocks[:, 256:512]
        topic = topic / np.linalg.norm(topic, axis=1, keepdims=True)
        wanted = np.concatenate([np.sqrt(0.7) * topic, np.sqrt(0.3) * style], axis=1)
        np.testing.assert_allclose(seen["mixed"], wanted, atol=1e-5)
