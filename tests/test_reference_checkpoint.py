"""The checkpoint that comes with the repository, on texts that it has not seen."""

import re
from pathlib import Path

import numpy as np
import pytest

from subspace.blocks import BlockLayout
from subspace.data.records import read_records
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.model import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "checkpoints" / "minilm"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Test records of the project's own corpus, and their blocks."""
    checkpoint = load_checkpoint(FOLDER)
    encoder = CachedEncoder.open(checkpoint.encoder_spec(), root=tmp_path_factory.mktemp("store"))
    records = read_records([ROOT / "data" / "factorial"])["factorial"]
    records = [record for record in records if record.split == "test"]
    x = encoder.encode([record.text for record in records])
    return records, checkpoint.projection.layout.split(checkpoint.projection(x))


def share_alike(records, z, *, factor, k=5):
    """Share of the k nearest texts of other content with the same label."""
    cosines = z @ z.T
    shares = []
    for row, record in enumerate(records):
        order = [
            other for other in np.argsort(-cosines[row]) if records[other].group != record.group
        ]
        shares.append(
            np.mean(
                [records[other].factors[factor] == record.factors[factor] for other in order[:k]]
            )
        )
    return float(np.mean(shares))


def test_it_has_the_blocks_that_the_card_describes():
    layout = load_checkpoint(FOLDER).projection.layout
    widths = {"topic": 32, "style": 16, "complexity": 4, "specificity": 4, "residual": 256}
    assert layout == BlockLayout.from_widths(widths)


@pytest.mark.parametrize("factor", ["style", "complexity", "specificity"])
def test_each_block_finds_its_own_factor_and_the_residual_does_not(factor, unseen):
    records, blocks = unseen
    own = share_alike(records, blocks[factor], factor=factor)
    residual = share_alike(records, blocks["residual"], factor=factor)
    others = [name for name in ("style", "complexity", "specificity") if name != factor]
    assert own > residual + 0.2
    for other in others:
        assert own > share_alike(records, blocks[other], factor=factor) + 0.15


def test_the_topic_block_finds_topics_and_the_others_do_not(unseen):
    records, blocks = unseen
    topic = share_alike(records, blocks["topic"], factor="topic")
    for other in ("style", "complexity", "specificity"):
        assert topic > share_alike(records, blocks[other], factor="topic") + 0.3


def test_the_card_quotes_the_report_beside_it():
    report = (FOLDER / "separation.md").read_text(encoding="utf-8")
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| (cross-corpus|in-corpus) \| (.+?) \| (.+?) \| (.+?) \|", card, re.M)
    assert len(quoted) == 6
    for blocks, probe, selectivity, interval in quoted:
        line = rf"\| {blocks} \| controlled \| {probe}( probe)? \| {selectivity} \| {interval} \|"
        assert re.search(line, report), line
