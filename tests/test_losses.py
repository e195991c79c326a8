"""Every loss equals a slow loop written from its definition."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from subspace.losses import (
    ProbeHead,
    class_contrastive,
    guard_penalty,
    keep_loss,
    ordered_contrastive,
)


@pytest.fixture
def z() -> torch.Tensor:
    torch.manual_seed(0)
    return normalize(torch.randn(12, 5, dtype=torch.float64), dim=-1).requires_grad_()


CODES = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2, 3, 0, 1])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, -1, -1, -1, -1])


@pytest.mark.parametrize("hard_weight", [1.0, 4.0])
def test_class_contrastive_equals_the_definition(z, hard_weight):
    temperature, points = 0.2, z.detach()
    per_anchor = []
    for i in range(len(z)):
        positives = [j for j in range(len(z)) if j != i and CODES[j] == CODES[i]]
        if not positives:
            continue
        terms = {}
        for j in range(len(z)):
            if j != i:
                parallel = GROUPS[i] >= 0 and GROUPS[i] == GROUPS[j] and CODES[i] != CODES[j]
                weight = hard_weight if parallel else 1.0
                terms[j] = weight * math.exp(float(points[i] @ points[j]) / temperature)
        total = sum(terms.values())
        per_anchor.append(-sum(math.log(terms[j] / total) for j in positives) / len(positives))
    loss = class_contrastive(
        z, codes=CODES, groups=GROUPS, temperature=temperature, hard_weight=hard_weight
    )
    assert loss.item() == pytest.approx(sum(per_anchor) / len(per_anchor))


def test_a_hard_negative_costs_more(z):
    light, heavy = (
        class_contrastive(z, codes=CODES, groups=GROUPS, temperature=0.2, hard_weight=weight)
        for weight in (1.0, 8.0)
    )
    assert heavy > light


def test_without_a_positive_there_is_nothing_to_learn(z):
    loss = class_contrastive(
        z, codes=torch.arange(12), groups=GROUPS, temperature=0.2, hard_weight=1.0
    )
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


def test_labels_in_line_with_the_vectors_cost_less_than_shuffled_ones(z):
    together = normalize(torch.eye(4, dtype=torch.float64)[CODES], dim=-1)
    settings = {"codes": CODES, "groups": GROUPS, "temperature": 0.2, "hard_weight": 1.0}
    assert class_contrastive(together, **settings) < class_contrastive(z, **settings)


@pytest.mark.parametrize("ties", [False, True])
def test_ordered_contrastive_equals_the_definition(z, ties):
    torch.manual_seed(1)
    values = torch.randint(4, (12,)).double() if ties else torch.randn(12, dtype=torch.float64)
    temperature, points = 0.3, z.detach()
    pairs = []
    for i in range(12):
        for j in range(12):
            if i == j:
                continue
            distance = abs(values[i] - values[j])
            at_least_as_far = [
                k for k in range(12) if k != i and abs(values[i] - values[k]) >= distance
            ]
            total = sum(
                math.exp(float(points[i] @ points[k]) / temperature) for k in at_least_as_far
            )
            pairs.append(-math.log(math.exp(float(points[i] @ points[j]) / temperature) / total))
    loss = ordered_contrastive(z, values=values, temperature=temperature)
    assert loss.item() == pytest.approx(sum(pairs) / len(pairs))


def test_vectors_in_the_labels_order_cost_less_than_in_any_other():
    angles = torch.linspace(0, 1.5, 10, dtype=torch.float64)
    line = torch.stack([angles.cos(), angles.sin()], dim=1)
    shuffled = line[torch.tensor([3, 7, 0, 9, 1, 5, 8, 2, 6, 4])]
    in_order, out_of_order = (
        ordered_contrastive(points, values=angles, temperature=0.1) for points in (line, shuffled)
    )
    assert in_order < out_of_order


def test_one_text_has_no_order(z):
    loss = ordered_contrastive(z[:1], values=torch.ones(1), temperature=0.1)
    loss.backward()
    assert loss.item() == 0


def test_gradients_are_finite_for_equal_and_for_zero_vectors():
    z = torch.cat([torch.ones(3, 4) / 2, torch.zeros(3, 4)]).requires_grad_()
    codes, values = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1.0, 1, 1, 2, 2, 3])
    groups = torch.zeros(6, dtype=torch.long)
    loss = class_contrastive(z, codes=codes, groups=groups, temperature=0.1, hard_weight=2.0)
    loss = loss + ordered_contrastive(z, values=values, temperature=0.1)
    loss = loss + keep_loss(z.detach(), z @ z.T, temperature=0.1)
    loss.backward()
    assert torch.isfinite(z.grad).all()


def test_the_guard_is_the_share_of_variance_along_the_class_means(z):
    torch.manual_seed(2)
    weight, classes = torch.randn(5, 8).double(), torch.randn(8, 3).double()
    moved = sum(float(row @ column) ** 2 for row in weight for column in classes.T)
    points = z.detach()
    centre = points.mean(dim=0)
    variance = sum(float(((row - centre) ** 2).sum()) for row in points) / len(points)
    penalty = guard_penalty(weight, classes=classes, z=z)
    assert penalty.item() == pytest.approx(moved / variance)


def test_the_guard_is_zero_exactly_without_cross_covariance_and_blind_to_scale():
    torch.manual_seed(3)
    x = torch.randn(50, 8).double()
    classes = torch.linalg.qr(torch.randn(8, 3).double())[0]
    weight = torch.randn(4, 8).double()
    clean = weight - (weight @ classes) @ classes.T

    def penalty(rows: torch.Tensor) -> float:
        return guard_penalty(rows, classes=classes, z=x @ rows.T).item()

    assert penalty(clean) == pytest.approx(0, abs=1e-12)
    assert penalty(weight) > 0.1
    assert penalty(weight) == pytest.approx(penalty(1000 * weight))


def test_keep_equals_the_definition_and_ignores_a_constant_per_text(z):
    torch.manual_seed(4)
    raw = normalize(torch.randn(12, 7).double(), dim=-1)
    scores, temperature = (z @ z.T).detach(), 0.2
    total = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        p = torch.softmax((raw @ raw.T)[i, others] / temperature, dim=0)
        q = torch.softmax(scores[i, others] / temperature, dim=0)
        total += float((p * (p / q).log()).sum())
    assert keep_loss(raw, scores, temperature=temperature).item() == pytest.approx(total / 12)
    shifted = raw @ raw.T + torch.randn(12, 1).double()
    assert keep_loss(raw, shifted, temperature=temperature).item() == pytest.approx(0, abs=1e-9)


def test_a_new_probe_head_predicts_all_classes_alike_or_the_mean():
    z = normalize(torch.randn(6, 4), dim=-1)
    classes = ProbeHead(width=4, class_count=5, mean=0.0, scale=1.0)
    assert classes.loss(z, labels=torch.arange(6) % 5).item() == pytest.approx(math.log(5))
    numbers = ProbeHead(width=4, class_count=0, mean=10.0, scale=2.0)
    labels = torch.tensor([8.0, 12, 8, 12, 8, 12])
    assert numbers.loss(z, labels=labels).item() == pytest.approx(1.0)


@pytest.mark.parametrize("class_count", [0, 3])
def test_a_probe_head_learns_what_is_there(class_count):
    torch.manual_seed(5)
    z = normalize(torch.randn(60, 4), dim=-1)
    labels = z[:, :3].argmax(dim=1) if class_count else 3 * z[:, 0] + 7
    head = ProbeHead(width=4, class_count=class_count, mean=7.0, scale=1.5)
    before = head.loss(z, labels=labels).item()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        head.loss(z, labels=labels).backward()
        optimizer.step()
    assert head.loss(z, labels=labels).item() < before / 3
