"""Each loss equals a slow loop written from its definition, and is finite where texts repeat."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from subspace.fitting.moments import FactorMoments, SourceMoments
from subspace.training.losses import (
    TrainingHead,
    anchor_penalty,
    class_contrastive,
    erasure_penalty,
    keep_loss,
    ordered_contrastive,
    other_class_means,
)

TEMPERATURES = [0.05, 0.5, 2.0]


def unit_vectors(count: int, width: int = 4, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=1)


def cosine(z: Tensor, i: int, j: int) -> float:
    return float(z[i] @ z[j])


def slow_class_contrastive(
    z: Tensor, codes: list[int], groups: list[int], temperature: float, hard_weight: float
) -> float:
    """Khosla et al. 2020, eq. 2 (L_out); parallel texts of another class count more below."""
    anchors = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and codes[p] == codes[i]]
        if not positives:
            continue
        below = 0.0
        for a in range(len(z)):
            if a != i:
                hard = groups[a] == groups[i] != -1 and codes[a] != codes[i]
                below += (hard_weight if hard else 1) * math.exp(cosine(z, i, a) / temperature)
        total = 0.0
        for p in positives:
            total += math.log(math.exp(cosine(z, i, p) / temperature) / below)
        anchors.append(-total / len(positives))
    return sum(anchors) / len(anchors) if anchors else 0.0


def slow_ordered_contrastive(z: Tensor, values: list[float], temperature: float) -> float:
    """Zha et al. 2023, eq. 1 and 2: S_ij = {k != i: d(y_i, y_k) >= d(y_i, y_j)}."""
    pairs = []
    for i in range(len(z)):
        for j in range(len(z)):
            if j == i:
                continue
            below = 0.0
            for k in range(len(z)):
                if k != i and abs(values[i] - values[k]) >= abs(values[i] - values[j]):
                    below += math.exp(cosine(z, i, k) / temperature)
            pairs.append(-math.log(math.exp(cosine(z, i, j) / temperature) / below))
    return sum(pairs) / len(pairs)


def slow_keep(raw: Tensor, similarity: Tensor, temperature: float) -> float:
    """Mean over texts of KL(softmax of raw cosines || softmax of the score), without itself."""
    total = 0.0
    for i in range(len(raw)):
        others = [j for j in range(len(raw)) if j != i]
        p = [math.exp(cosine(raw, i, j) / temperature) for j in others]
        q = [math.exp(float(similarity[i, j]) / temperature) for j in others]
        for a, b in zip(p, q, strict=True):
            total += a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
    return total / len(raw)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=2, max_size=10),
    temperature=st.sampled_from(TEMPERATURES),
    hard_weight=st.sampled_from([1.0, 4.0, 17.5]),
)
def test_class_contrastive_equals_the_loop(texts, temperature, hard_weight):
    codes, groups = map(list, zip(*texts, strict=True))
    z = unit_vectors(len(texts))
    loss = class_contrastive(
        z,
        codes=torch.tensor(codes),
        groups=torch.tensor(groups),
        temperature=temperature,
        hard_weight=hard_weight,
    )
    slow = slow_class_contrastive(z, codes, groups, temperature, hard_weight)
    assert loss.item() == pytest.approx(slow, rel=1e-9, abs=1e-12)


def test_a_heavier_hard_negative_costs_more_and_only_where_the_content_is_the_same():
    z, codes = unit_vectors(4), torch.tensor([0, 1, 0, 1])

    def loss(groups: list[int], hard_weight: float) -> float:
        return float(
            class_contrastive(
                z,
                codes=codes,
                groups=torch.tensor(groups),
                temperature=0.5,
                hard_weight=hard_weight,
            )
        )

    assert loss([0, 0, 1, 1], 8.0) > loss([0, 0, 1, 1], 1.0)
    assert loss([-1, -1, -1, -1], 8.0) == loss([-1, -1, -1, -1], 1.0)
    # The same content under the same label is no negative at all.
    assert loss([0, 1, 0, 1], 8.0) == loss([0, 1, 0, 1], 1.0)


def test_class_contrastive_is_lower_where_the_classes_lie_apart():
    codes = torch.tensor([0, 0, 1, 1])
    arguments = {"groups": torch.full((4,), -1), "temperature": 0.1, "hard_weight": 1.0}
    z = torch.eye(2, dtype=torch.float64)[codes]
    apart = class_contrastive(z, codes=codes, **arguments)
    mixed = class_contrastive(z, codes=torch.tensor([0, 1, 0, 1]), **arguments)
    assert apart < 1e-3 < 5 < mixed


@pytest.mark.parametrize("codes", [[0, 1, 2, 3], [0], []], ids=str)
def test_without_a_positive_class_contrastive_is_exactly_zero_and_can_be_differentiated(codes):
    z = unit_vectors(len(codes)).requires_grad_()
    loss = class_contrastive(
        z,
        codes=torch.tensor(codes, dtype=torch.int64),
        groups=torch.zeros(len(codes), dtype=torch.int64),
        temperature=0.1,
        hard_weight=4.0,
    )
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-3, 3).map(lambda n: n / 2), min_size=2, max_size=9),
    temperature=st.sampled_from(TEMPERATURES),
)
def test_ordered_contrastive_equals_the_loop_also_where_labels_tie(values, temperature):
    z = unit_vectors(len(values))
    loss = ordered_contrastive(z, values=torch.tensor(values), temperature=temperature)
    slow = slow_ordered_contrastive(z, values, temperature)
    assert loss.item() == pytest.approx(slow, rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_ordered_contrastive_does_not_depend_on_the_order_of_the_texts(seed):
    z, values = unit_vectors(8), torch.tensor([0.0, 1, 1, 1, 2, 2, 5, 7])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    first = ordered_contrastive(z, values=values, temperature=0.2)
    other = ordered_contrastive(z[order], values=values[order], temperature=0.2)
    assert float(first) == pytest.approx(float(other), rel=1e-12)


def test_ordered_contrastive_is_lower_for_texts_in_the_order_of_their_labels():
    values = torch.arange(8.0)
    angles = values / 8 * math.pi
    line = torch.stack([angles.cos(), angles.sin()], dim=1)
    ordered = ordered_contrastive(line, values=values, temperature=0.1)
    for seed in range(10):
        shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
        assert ordered < ordered_contrastive(line[shuffled], values=values, temperature=0.1)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_texts_have_no_order_and_cost_nothing(count):
    z = unit_vectors(count).requires_grad_()
    loss = ordered_contrastive(z, values=torch.zeros(count), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_keep_equals_the_loop(count, temperature):
    raw, blocks = unit_vectors(count, 6), unit_vectors(count, 3, seed=1)
    similarity = blocks @ blocks.T
    loss = keep_loss(raw, similarity, temperature=temperature)
    slow = slow_keep(raw, similarity, temperature)
    assert loss.item() == pytest.approx(slow, rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_keep_is_zero_if_scores_agree_up_to_a_constant_per_row_and_positive_if_not(seed):
    generator = torch.Generator().manual_seed(seed)
    raw = unit_vectors(6, seed=seed)
    constants = torch.randn(6, 1, generator=generator, dtype=torch.float64)
    itself = torch.diag(torch.randn(6, generator=generator, dtype=torch.float64))
    similarity = raw @ raw.T + constants + itself  # a text's score for itself does not count
    assert abs(float(keep_loss(raw, similarity, temperature=1.0))) < 1e-12
    similarity[1, 4] += 0.5
    assert float(keep_loss(raw, similarity, temperature=1.0)) > 1e-4


def spread(count: int, dim: int, *, seed: int = 0) -> Tensor:
    """A covariance (dim, dim)."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, dim)))
    return x.T @ x / count


def test_anchor_equals_the_loop_and_its_gradient_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    weight, start = (torch.from_numpy(rng.normal(size=(3, 5))) for _ in range(2))
    scatter = spread(9, 5)
    moved = size = 0.0
    for row in range(3):
        for a in range(5):
            for b in range(5):
                change = (weight[row, a] - start[row, a]) * (weight[row, b] - start[row, b])
                moved += float(change * scatter[a, b])
                size += float(start[row, a] * start[row, b] * scatter[a, b])

    def plain(w: Tensor) -> Tensor:
        return torch.trace((w - start) @ scatter @ (w - start).T) / size

    weight.requires_grad_()
    penalty = anchor_penalty(weight, start=start, scatter=scatter, energy=size)
    assert penalty.item() == pytest.approx(moved / size, rel=1e-12)
    (gradient,) = torch.autograd.grad(penalty, weight)
    (wanted,) = torch.autograd.grad(plain(weight), weight)
    torch.testing.assert_close(gradient, wanted)


def test_anchor_is_zero_at_the_start_one_for_nothing_and_free_where_texts_do_not_differ():
    start = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5)))
    scatter = spread(9, 5)
    scatter[4] = scatter[:, 4] = 0  # no text differs from another along the last dimension
    energy = float(((start @ scatter) * start).sum())

    def penalty(weight: Tensor) -> float:
        return anchor_penalty(weight, start=start, scatter=scatter, energy=energy).item()

    assert penalty(start) == 0
    assert penalty(0 * start) == pytest.approx(1, rel=1e-12)
    elsewhere = start.clone()
    elsewhere[:, 4] += 100
    assert penalty(elsewhere) == 0


def test_erasure_equals_the_loop():
    rng = np.random.default_rng(0)
    x, weight, means = (rng.normal(size=shape) for shape in ((9, 5), (3, 5), (5, 4)))
    z = x @ weight.T
    squares = 0.0
    for row in range(3):
        for column in range(4):
            squares += sum(weight[row, d] * means[d, column] for d in range(5)) ** 2
    variance = 0.0
    for i in range(9):
        for row in range(3):
            variance += (z[i, row] - np.mean(z[:, row])) ** 2 / 9
    penalty = erasure_penalty(
        torch.from_numpy(weight), means=torch.from_numpy(means), z=torch.from_numpy(z)
    )
    assert float(penalty) == pytest.approx(squares / variance, rel=1e-12)


def test_erasure_is_zero_exactly_where_the_cross_covariance_is():
    """A row may lie anywhere in the complement of the class means, and nowhere else."""
    x = unit_vectors(20, 5)
    means = torch.zeros(5, 2, dtype=torch.float64)
    means[0, 0] = means[1, 1] = 1
    inside = torch.tensor([[0.0, 0, 1, -2, 3], [0, 0, 0, 1, 1]], dtype=torch.float64)
    assert float(erasure_penalty(inside, means=means, z=x @ inside.T)) == 0
    leaning = inside.clone()
    leaning[0, 1] = 1e-3
    assert float(erasure_penalty(leaning, means=means, z=x @ leaning.T)) > 0


@given(scale=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
@settings(deadline=None)
def test_a_block_cannot_lower_erasure_by_shrinking_and_shifting_changes_nothing(scale, sign):
    x, weight, means = unit_vectors(9, 5), unit_vectors(3, 5, seed=1), unit_vectors(5, 4, seed=2)
    first = erasure_penalty(weight, means=means, z=x @ weight.T)
    scaled = sign * scale * weight
    other = erasure_penalty(scaled, means=means, z=x @ scaled.T + 7)
    assert float(other) == pytest.approx(float(first), rel=1e-6)


@pytest.mark.parametrize("classes", [3, 40], ids=["few classes", "more classes than dimensions"])
@pytest.mark.parametrize("block", ["topic", "style"])
def test_other_class_means_measure_the_between_class_variance_of_the_other_factors(classes, block):
    rng = np.random.default_rng(0)
    moments, shares, w = {}, [], rng.normal(size=(5, 8))
    for source, factors in {"one": ("topic", "style", "tone"), "two": ("topic", "style")}.items():
        x = rng.normal(size=(400, 8))
        x -= x.mean(axis=0)
        found = {}
        for factor in factors:
            codes = rng.integers(0, classes, 400)
            counts = np.bincount(codes, minlength=classes)
            means = np.stack([x[codes == code].mean(axis=0) for code in range(classes)])
            found[factor] = FactorMoments(counts=counts, means=means, within_groups=None)
            if factor != block:
                between = sum(
                    count / 400 * (w @ mean) @ (w @ mean)
                    for count, mean in zip(counts, means, strict=True)
                )
                shares.append(between / np.square(x).sum(axis=1).mean())
        moments[source] = SourceMoments(
            count=400, mean=np.zeros(8), covariance=x.T @ x / 400, factors=found
        )
    columns = other_class_means(moments, block=block)
    assert columns.shape[1] <= 8 if classes > 8 else columns.shape[1] > 0
    np.testing.assert_allclose(np.square(w @ columns).sum(), np.mean(shares), rtol=1e-6)


def test_without_another_factor_there_is_nothing_to_erase():
    factor = FactorMoments(counts=np.ones(2), means=np.eye(2, 3), within_groups=None)
    source = SourceMoments(
        count=2, mean=np.zeros(3), covariance=np.eye(3), factors={"topic": factor}
    )
    assert not other_class_means({"one": source}, block="topic").any()
    assert other_class_means({"one": source}, block="style").any()


def test_the_probe_of_classes_is_the_cross_entropy_of_a_linear_head():
    head, z, codes = make_head(class_count=3), unit_vectors(6), [0, 2, 1, 2, 2, 0]
    slow = 0.0
    for i, code in enumerate(codes):
        logits = slow_head(head, z[i])
        slow -= math.log(math.exp(logits[code]) / sum(map(math.exp, logits))) / 6
    loss = head.loss(z, labels=torch.tensor(codes, dtype=torch.int32))
    assert loss.item() == pytest.approx(slow, rel=1e-9)


def test_the_probe_of_numbers_is_the_squared_error_in_standard_deviations():
    head, z = make_head(class_count=0, mean=50.0, scale=20.0), unit_vectors(5)
    values = [10.0, 50.0, 70.0, 90.0, 50.5]
    slow = 0.0
    for i, value in enumerate(values):
        slow += (slow_head(head, z[i])[0] - (value - 50) / 20) ** 2 / 5
    loss = head.loss(z, labels=torch.tensor(values))
    assert loss.item() == pytest.approx(slow, rel=1e-9)


def test_an_untrained_probe_predicts_all_classes_alike_or_the_mean():
    z = unit_vectors(6).float()
    classes = TrainingHead(width=4, class_count=3, mean=0.0, scale=1.0)
    loss = classes.loss(z, labels=torch.arange(6) % 3)
    assert loss.item() == pytest.approx(math.log(3), rel=1e-6)
    numbers = TrainingHead(width=4, class_count=0, mean=5.0, scale=2.0)
    assert numbers.loss(z, labels=torch.full((6,), 5.0)).item() == 0
    assert numbers.loss(z, labels=torch.full((6,), 7.0)).item() == 1


def make_head(*, class_count: int, mean: float = 0.0, scale: float = 1.0) -> TrainingHead:
    head = TrainingHead(width=4, class_count=class_count, mean=mean, scale=scale).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return head


def slow_head(head: TrainingHead, z: Tensor) -> list[float]:
    """Unit vectors are brought to entries of about unit size: times the root of the width."""
    rows = zip(head.linear.weight.tolist(), head.linear.bias.tolist(), strict=True)
    return [
        bias + sum(w * 2 * float(entry) for w, entry in zip(row, z, strict=True))
        for row, bias in rows
    ]


DEGENERATE = {
    "random": unit_vectors(6).float(),
    "all the same": torch.ones(6, 4) / 2,
    "duplicates": unit_vectors(3).float().repeat(2, 1),
    "zero vectors": torch.zeros(6, 4),
    "opposite": torch.cat([unit_vectors(3), -unit_vectors(3)]).float(),
}


@pytest.mark.parametrize("world", DEGENERATE)
@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize(
    "term",
    ["classes", "numbers", "tied numbers", "keep", "erasure", "probe classes", "probe numbers"],
)
def test_losses_and_gradients_are_finite_also_for_duplicates_and_zero_vectors(
    world, temperature, term
):
    z = DEGENERATE[world].clone().requires_grad_()
    unit = normalize(z, dim=1)
    codes = torch.tensor([0, 0, 1, 1, 2, 3])
    if term == "classes":
        loss = class_contrastive(
            unit,
            codes=codes,
            groups=torch.tensor([0, 1, 0, 1, -1, -1]),
            temperature=temperature,
            hard_weight=4.0,
        )
    elif term == "keep":
        loss = keep_loss(normalize(DEGENERATE["random"]), unit @ unit.T, temperature=temperature)
    elif term == "erasure":
        loss = erasure_penalty(z[:3], means=unit_vectors(4).float(), z=DEGENERATE[world] @ z[:3].T)
    elif term == "probe classes":
        loss = TrainingHead(width=4, class_count=4, mean=0.0, scale=1.0).loss(unit, labels=codes)
    elif term == "probe numbers":
        loss = TrainingHead(width=4, class_count=0, mean=0.0, scale=1.0).loss(unit, labels=codes)
    else:
        values = torch.arange(6.0) if term == "numbers" else torch.tensor([0.0, 0, 1, 1, 1, 1])
        loss = ordered_contrastive(unit, values=values, temperature=temperature)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    if world == "random" and not term.startswith("probe"):  # an untrained head passes nothing on
        assert z.grad.any()
