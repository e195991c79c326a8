"""Files of a result are all written, or none; links among older ones stay."""

import pytest

from subspace.evaluation.result_files import result_files


def test_results_go_through_a_link_to_what_it_leads_to(tmp_path):
    folder, target = tmp_path / "report", tmp_path / "kept.md"
    folder.mkdir()
    target.write_text("old")
    (folder / "a.md").symlink_to(target)
    (folder / "b.md").write_text("old")
    with pytest.raises(ValueError, match="half"), result_files(folder) as partial:
        (partial / "a.md").write_text("half")
        raise ValueError("half")
    assert target.read_text() == "old"
    with result_files(folder) as partial:
        for name in ("a.md", "b.md"):
            (partial / name).write_text("new")
    assert (folder / "a.md").is_symlink()
    assert target.read_text() == (folder / "b.md").read_text() == "new"
    assert sorted(path.name for path in folder.iterdir()) == ["a.md", "b.md"]
