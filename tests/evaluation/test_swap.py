"""Swap accuracy: 1 for a block of the label alone, 0 for one of content alone or of nothing."""

import numpy as np
import pytest

from subspace.data.labels import Column, Labels
from subspace.evaluation.swap import Triples, draw_triples, swap_accuracy

GROUPS, STYLES = 60, 3


@pytest.fixture(scope="module")
def labels() -> Labels:
    """Every content in three styles, with graded numbers beside."""
    group, style = np.divmod(np.arange(GROUPS * STYLES), STYLES)
    values = style.astype(np.float64)
    return Labels(
        source="test",
        columns={
            "style": Column(codes=style, class_count=STYLES),
            "complexity": Column(codes=style, class_count=STYLES, values=values),
            "topic": Column(codes=group, class_count=GROUPS),
        },
        groups=group,
        splits=np.full(len(group), 2),
    )


@pytest.mark.parametrize("factor", ["style", "complexity"])
def test_triples_are_what_they_are_called(labels, factor):
    triples = draw_triples(labels, factor=factor)
    codes, groups = labels.columns[factor].codes, labels.groups
    assert len(triples) == GROUPS * STYLES
    assert (codes[triples.anchors] == codes[triples.same_label]).all()
    assert (groups[triples.anchors] != groups[triples.same_label]).all()
    assert (groups[triples.anchors] == groups[triples.same_content]).all()
    assert (codes[triples.anchors] != codes[triples.same_content]).all()


def test_without_groups_that_cross_labels_there_are_no_triples(labels):
    assert len(draw_triples(labels, factor="topic")) == 0
    alone = Labels("test", labels.columns, groups=np.full(len(labels), -1), splits=labels.splits)
    assert len(draw_triples(alone, factor="style")) == 0


def test_a_block_of_style_wins_and_one_of_content_or_of_nothing_never_does(labels):
    triples = draw_triples(labels, factor="style")
    style = np.eye(STYLES)[labels.columns["style"].codes]
    content = np.eye(GROUPS)[labels.groups]
    assert swap_accuracy(style, triples) == 1
    assert swap_accuracy(content, triples) == 0
    assert swap_accuracy(np.ones_like(style), triples) == 0
    assert swap_accuracy(np.zeros_like(style), triples) == 0
    noise = np.random.default_rng(0).normal(size=style.shape)
    assert 0.35 < swap_accuracy(noise, triples) < 0.65


def test_rounding_wins_nothing():
    z = np.array([[1, 0], [1, 1e-8], [1, 0]], dtype=np.float64)
    triples = Triples(np.array([0]), np.array([2]), np.array([1]))
    assert swap_accuracy(z, triples) == 0
