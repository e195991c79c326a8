"""Discovery: planted dimensions come first, rotated ones are found by directions alone."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import hadamard
from worlds import cut

from subspace.cli import main
from subspace.data.records import SPLITS, Record
from subspace.errors import ConfigError
from subspace.evaluation.discovery import Discovery, discover
from subspace.evaluation.discovery_tables import discovery_markdown, held_table, write_discovery
from subspace.evaluation.retained_share import BEST, LEARNED, PRINCIPAL, RANDOM, counts
from subspace.evaluation.samples import Sample, draw_samples

DIM, COUNT, PLACE = 16, 600, 3
RAW = slice(0, DIM)
STYLES = ("plain", "loud")


def make_records(source: str = "one", *, seed: int = 0, count: int = COUNT) -> tuple[Record, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        Record(
            id=str(n),
            text=f"text {n} | of *many*\nlines" + " word" * int(rng.integers(1, 9)),
            source=source,
            factors={"style": STYLES[rng.integers(2)], "complexity": float(rng.random())},
            split=SPLITS[(0, 0, 0, 1, 2)[n % 5]],
        )
        for n in range(count)
    )


def plant(sample: Sample, *, strengths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Style in every dimension as strongly as said, in noise; complexity nowhere."""
    rng = np.random.default_rng(seed)
    codes = np.array([STYLES.index(record.factors["style"]) for record in sample.records])
    x = rng.normal(size=(len(codes), DIM)) + np.outer(2 * codes - 1, strengths)
    return x.astype(np.float32)


def one_dimension(strength: float = 3.0) -> np.ndarray:
    return strength * np.eye(DIM)[PLACE]


def study(samples, vectors, **options) -> Discovery:
    return discover(samples, vectors=vectors, raw=RAW, **options)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return draw_samples({"one": make_records()})[0]


@pytest.fixture(scope="module")
def planted(samples) -> Discovery:
    return study(samples, [plant(s, strengths=one_dimension()) for s in samples])


def test_the_planted_dimension_is_first_and_alone_significant(planted):
    style, complexity = planted.findings
    assert (style.factor, complexity.factor) == ("style", "complexity")
    assert style.best == PLACE
    assert PLACE in style.significant
    assert style.find(BEST, 1).share > 0.95
    assert style.find(RANDOM, 1).share < 0.6
    assert len(complexity.significant) == 0  # it is nowhere


def test_with_shuffled_labels_nothing_is_significant(samples):
    rng = np.random.default_rng(3)
    shuffled = [
        replace(
            sample,
            task=replace(
                sample.task, column=sample.task.column.take(rng.permutation(len(sample.records)))
            ),
        )
        for sample in samples
    ]
    found = study(shuffled, [plant(s, strengths=one_dimension()) for s in samples])
    assert all(len(finding.significant) == 0 for finding in found.findings)
    raw = np.stack([finding.training.p for finding in found.findings])
    assert (raw < 0.1).any()


def test_shares_rise_with_the_number_of_dimensions_to_exactly_all(samples):
    x = plant(samples[0], strengths=np.linspace(0.7, 0.0, DIM))
    finding = study(samples[:1], [x]).findings[0]
    shares = [finding.find(BEST, k).share for k in counts(DIM)]
    assert shares[-1] == pytest.approx(1)
    assert finding.find(RANDOM, DIM).share == pytest.approx(1)
    assert all(later > earlier - 0.05 for earlier, later in itertools.pairwise(shares))
    assert shares[0] < 0.7
    assert shares[2] > finding.find(RANDOM, 4).share


def test_what_a_rotation_spreads_is_in_no_dimension_but_in_a_learned_direction(samples):
    rotation = hadamard(DIM) / np.sqrt(DIM)  # spreads every dimension over all of them alike
    x = plant(samples[0], strengths=one_dimension(2.0))
    before, after = (
        study(samples[:1], [vectors.astype(np.float32)]).findings[0]
        for vectors in (x, x @ rotation)
    )
    assert before.find(BEST, 1).share > 0.9
    assert after.find(BEST, 1).share < 0.6
    assert after.full == pytest.approx(before.full, abs=0.05)
    assert after.find(LEARNED, 1).share > 0.95
    assert after.find(PRINCIPAL, 1).share > 0.9  # the strongest thing there is


def test_a_dead_dimension_is_constant_though_its_order_says_everything(samples):
    x = plant(samples[0], strengths=one_dimension())
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[:, PLACE] *= 1e-30
    finding = study(samples[:1], [x]).findings[0]
    assert finding.best != PLACE
    assert finding.training.p[PLACE] == 1
    assert finding.scores[PLACE] == pytest.approx(0.5)


def test_the_block_is_read_beside_the_dimensions(samples):
    vectors = [plant(s, strengths=one_dimension()) for s in samples]
    blocks = cut({"style": slice(PLACE, PLACE + 2), "topic": slice(8, 10)})
    style, complexity = study(samples, vectors, projection=blocks).findings
    assert style.block.count == 2
    assert style.block.share > 0.9
    assert complexity.block is None
    empty = cut({"style": slice(8, 10)})
    assert study(samples[:1], vectors[:1], projection=empty).findings[0].block.share < 0.3


def test_the_ends_are_test_texts_in_the_order_of_the_dimension(planted, samples):
    finding, sample = planted.findings[0], samples[0]
    assert {record.split for record in finding.highest + finding.lowest} == {"test"}
    assert {record.factors["style"] for record in finding.highest} == {"loud"}
    assert {record.factors["style"] for record in finding.lowest} == {"plain"}
    x = plant(sample, strengths=one_dimension())
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    top = max(sample.task.test, key=lambda position: x[position, PLACE])
    assert finding.highest[0] == sample.records[top]


def test_sources_that_say_the_same_agree_and_others_do_not():
    records = {name: make_records(name, seed=seed) for seed, name in enumerate(("one", "two"))}
    samples, _ = draw_samples(records, factors=["style"])
    alike = study(samples, [plant(s, strengths=np.linspace(0.5, 0, DIM)) for s in samples])
    apart = study(
        samples,
        [
            plant(s, strengths=strengths)
            for s, strengths in zip(
                samples, (np.linspace(0.5, 0, DIM), np.linspace(0, 0.5, DIM)), strict=True
            )
        ],
    )
    assert alike.pairs()[0].sources == ("one", "two")
    assert alike.pairs()[0].agreement.correlation > 0.6
    assert apart.pairs()[0].agreement.correlation < -0.3
    assert alike.unlike() == []
    assert "| style | 1 | +" in discovery_markdown(alike)


def test_pages_are_for_people_and_machines_and_the_same_again(planted, samples, tmp_path):
    again = study(samples, [plant(s, strengths=one_dimension()) for s in samples])
    pages = []
    for name, found in (("one", planted), ("two", again)):
        (tmp_path / name).mkdir()
        write_discovery(found, folder=tmp_path / name)
        files = [tmp_path / name / f"discover.{kind}" for kind in ("json", "md", "png")]
        pages.append([file.read_bytes() for file in files])
    assert pages[0] == pages[1]
    written = json.loads(pages[0][0])
    style = written["findings"][0]
    assert style["ranking"][0] == PLACE
    assert len(style["p"]) == len(style["test"]) == DIM
    assert len(style["highest"]) == len(style["lowest"]) == 5
    assert pages[0][2].startswith(b"\x89PNG")
    text = discovery_markdown(planted)
    assert "- *loud*: text" in text
    assert "\\| of \\*many\\* lines" in text
    other = study(samples, [plant(s, strengths=one_dimension()) for s in samples], seed=1)
    assert discovery_markdown(other) != text


def test_where_all_dimensions_are_near_chance_there_is_no_share(samples, tmp_path):
    x = plant(samples[1], strengths=one_dimension())
    x[samples[1].task.test] = 1  # nothing to tell them apart by
    found = study([samples[1]], [x])
    assert found.findings[0].full == 0
    assert held_table(found)[2] == f"| complexity | one | 0.00 (0.00) |{' - |' * 8}"
    write_discovery(found, folder=tmp_path)
    written = json.loads((tmp_path / "discover.json").read_text())
    assert {held["share"] for held in written["findings"][0]["held"]} == {None}


def test_only_the_texts_that_are_read_are_drawn():
    records = make_records(count=6000)
    samples, _ = draw_samples({"one": records}, factors=["style"])
    assert len(samples[0].records) == 2000 + 500 + 1000
    task = samples[0].task
    assert {samples[0].records[position].split for position in task.train} == {"train"}
    assert {samples[0].records[position].split for position in task.test} == {"test"}
    for record, code in zip(samples[0].records, task.column.codes, strict=True):
        assert (record.factors["style"] == records[0].factors["style"]) == (code == 0)


@pytest.mark.parametrize(
    ("change", "factors", "message"),
    [
        ({}, ["mood"], "no text is labelled with mood; there are style, complexity"),
        ({"factors": {"style": "plain"}}, [], "style of one: .* two classes in each"),
        ({"factors": {"style": "plain"}}, ["style"], "style cannot be studied"),
        ({"group": "same"}, [], "texts are of 1 groups; 20 are needed"),
    ],
)
def test_what_cannot_be_studied_is_said(change, factors, message):
    records = [replace(record, **change) for record in make_records()]
    with pytest.raises(ConfigError, match=message):
        draw_samples({"one": records}, factors=factors)


def test_classes_of_one_text_each_are_said():
    records = [
        replace(record, factors={"style": f"style {n if record.split == 'train' else n % 2}"})
        for n, record in enumerate(make_records(count=160))
    ]
    with pytest.raises(ConfigError, match="fewer than two classes have more than one"):
        draw_samples({"one": records})


def test_too_few_texts_are_said():
    with pytest.raises(ConfigError, match=r"a probe needs 30 labelled texts .*there are 24, 8, 8"):
        draw_samples({"one": make_records(count=40)})


def test_one_source_that_cannot_be_studied_leaves_the_others():
    records = {"one": make_records(), "few": make_records("few", count=40)}
    samples, left_out = draw_samples(records)
    assert {sample.task.source for sample in samples} == {"one"}
    assert len(left_out) == 2


def command(*arguments: str | Path) -> list[str]:
    return ["discover", *map(str, arguments)]


def test_the_command_writes_its_pages(labelled_folder, tiny_qwen, tmp_path, capsys):
    given = ("--data", labelled_folder, "--encoder", tiny_qwen, "--store", tmp_path / "store")
    assert main(command(*given, "--factors", "style", "--output", tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert "| style | parallel |" in out
    assert "discover.md" in out
    written = json.loads((tmp_path / "out" / "discover.json").read_text())
    assert written["dimensions"] == 32
    assert [finding["factor"] for finding in written["findings"]] == ["style"]


def test_a_checkpoint_brings_its_encoder_and_its_blocks(labelled_folder, tmp_path, capsys):
    given = ("--data", labelled_folder / "parallel", "--checkpoint", "minilm")
    output = ("--store", tmp_path / "store", "--output", tmp_path / "out")
    assert main(command(*given, *output, "--factors", "style")) == 0
    written = json.loads((tmp_path / "out" / "discover.json").read_text())
    assert written["dimensions"] == 384  # the last layer of those that the checkpoint reads
    assert written["findings"][0]["held"][-1]["space"] == "block"
    assert written["blocks_trained_on"] == []


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ((), "give --encoder"),
        (("--encoder", "minilm", "--seed", "-1"), "--seed must be 0 or more"),
        (("--encoder", "minilm", "--factors", "mood"), "no text is labelled with mood"),
        (("--encoder", "nowhere/at-all"), "nowhere/at-all"),
        (("--checkpoint", "nowhere"), "nowhere"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    extra, message, labelled_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = ("--data", labelled_folder, "--store", tmp_path / "store", "--output", tmp_path / "out")
    assert main(command(*given, *extra)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "nowhere"),
        ('{"id": "a", "text": "b"}\n', "'factors' must name at least one factor"),
    ],
)
def test_wrong_data_are_one_sentence(content, message, tmp_path, capsys):
    path = tmp_path / "nowhere.jsonl"
    if content:
        path.write_text(content)
    given = ("--data", path, "--encoder", "minilm", "--output", tmp_path / "out")
    assert main(command(*given)) == 2
    assert message in capsys.readouterr().err


def test_help_is_quick_and_loads_no_trainer():
    code = (
        "import sys; from subspace.cli import main\n"
        "try: main(['discover', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'sklearn', 'pytorch_lightning'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert "example: subspace discover" in out.stdout
