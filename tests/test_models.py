"""WindowModel sees its window and nothing else, and `generate` samples what the model says."""

import numpy as np
import pytest
import torch

from lossutils import cross_entropy
from lossutils.models import WindowModel, generate


def ids(*shape, vocab_size=7, seed=0):
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("context", [1, 2, 5])
def test_a_prediction_depends_on_exactly_the_last_context_tokens(context):
    model, text = WindowModel(7, context, seed=1), ids(1, 12)
    before = model(text)
    for changed in range(12):
        other = text.clone()
        other[0, changed] = (other[0, changed] + 1) % 7
        moved = (model(other) != before).any(dim=-1)[0]
        expected = torch.zeros(12, dtype=torch.bool)
        expected[changed + 1 : changed + 1 + context] = True
        assert torch.equal(moved, expected)


def test_the_logits_have_one_row_for_each_token_and_any_leading_shape():
    model = WindowModel(7, 3)
    assert model(ids(5)).shape == (5, 7)
    assert model(ids(2, 3, 5)).shape == (2, 3, 5, 7)
    assert torch.equal(model(ids(2, 3, 5))[1, 2], model(ids(2, 3, 5)[1, 2]))


def test_the_untrained_loss_is_close_to_the_logarithm_of_the_vocabulary_size():
    text = ids(64, 32, vocab_size=50)
    loss = cross_entropy(WindowModel(50, 4)(text).flatten(0, 1), text.flatten())
    assert loss.item() == pytest.approx(np.log(50), abs=0.02)


def test_the_seed_fixes_the_weights_and_leaves_the_global_state_alone():
    state = torch.random.get_rng_state()
    one, two, other = WindowModel(7, 2, seed=3), WindowModel(7, 2, seed=3), WindowModel(7, 2, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    text = ids(9)
    assert torch.equal(one(text), two(text))
    assert not torch.equal(one(text), other(text))


@pytest.mark.parametrize("argument", ["vocab_size", "context", "width", "embedding"])
def test_a_size_below_one_is_an_error_that_names_it(argument):
    sizes = {"vocab_size": 7, "context": 2, "width": 8, "embedding": 4} | {argument: 0}
    with pytest.raises(ValueError, match=f"{argument} is 0; it must be at least 1"):
        WindowModel(**sizes)


def test_generated_tokens_follow_the_probabilities_of_the_model():
    model = WindowModel(3, 1, seed=0)
    p = np.array([0.7, 0.2, 0.1])
    with torch.no_grad():
        model.out_weight.zero_()
        model.out_bias.copy_(torch.as_tensor(np.log(p)))
    counts = np.bincount(generate(model, 2000, np.random.default_rng(0)), minlength=3)
    chi_square = ((counts - 2000 * p) ** 2 / (2000 * p)).sum()
    assert chi_square < 13.8  # the 0.1 % point for two degrees of freedom


def test_a_prompt_is_continued_and_not_returned():
    model = WindowModel(3, 2, seed=0)
    with torch.no_grad():  # the next token is always the last one plus one
        model.hidden_weight.zero_()
        model.embed.zero_()
        model.embed[:3, :3] = torch.eye(3)
        model.hidden_weight[:3, 24:27] = torch.eye(3)  # the second half of the window is the last token
        model.out_weight.zero_()
        model.out_weight[:, :3] = 100 * torch.roll(torch.eye(3), 1, dims=0)
    assert generate(model, 4, np.random.default_rng(0), prompt=[0, 1]).tolist() == [2, 0, 1, 2]


def test_asking_for_no_tokens_is_an_error():
    with pytest.raises(ValueError, match="n_tokens is 0; it must be at least 1"):
        generate(WindowModel(3, 1), 0, np.random.default_rng(0))
