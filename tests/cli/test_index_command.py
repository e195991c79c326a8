"""`subspace index` says what it did not read, and no figure that too few texts cannot give."""

import json

from retrieval_world import make_model

from subspace.cli.main import main


def test_two_texts_have_no_spread_and_what_is_cut_is_said_every_time(
    tiny_qwen, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    make_model(tiny_qwen).save("K")
    texts = ["short", "one word after another " * 2000, "third"]
    for count in (2, 2, 3):
        lines = [json.dumps({"id": f"t{n}", "text": texts[n]}) for n in range(count)]
        (tmp_path / "in.jsonl").write_text("\n".join(lines))
        command = ["index", "--checkpoint", "K", "--input", "in.jsonl", "--output", "index"]
        assert main([*command, "--store", "store"]) == 0
        out = capsys.readouterr().out
        assert f"1 of {count} texts are longer than the encoder's" in out
        assert ("standard deviation" in out) == (count > 2)
        assert ("2 texts are too few to say" in out) == (count == 2)
