"""The torch models see what they may see and nothing else, and `generate` samples what the model says."""

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from lossutils import cross_entropy
from lossutils.models import GPT, LanguageModel, NGramModel, Reader, WindowModel, generate
from lossutils.windows import sliding_window_nll


def ids(*shape, vocab_size=7, seed=0):
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def gpt(vocab_size=7, context=12, **options):
    """A small GPT whose predictions depend visibly on everything: the head's small initial weights are scaled up."""
    model = GPT(vocab_size, context=context, **({"width": 16, "heads": 2, "seed": 1} | options)).double()
    with torch.no_grad():
        for parameter in (model.head.weight, model.position, model.embed):
            parameter.mul_(1 / parameter.std())
    return model


def ngram(vocab_size=7):
    return NGramModel(vocab_size, 3).fit(ids(500, seed=5).numpy())


MODELS = {"WindowModel": lambda: WindowModel(7, 3).double(), "GPT": gpt, "NGramModel": ngram}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
each_torch_model = pytest.mark.parametrize("make", [MODELS["WindowModel"], gpt], ids=["WindowModel", "GPT"])


# Every model ----------------------------------------------------------------------------------------------


@each_model
def test_a_model_offers_the_interface(make):
    model = make()
    assert isinstance(model, LanguageModel)
    assert (model.vocab_size, model.start_id) == (7, 7)


@each_model
@pytest.mark.parametrize("length", [1, 2, 12, 13, 40])
def test_the_losses_of_a_text_are_those_of_one_prediction_after_another(make, length):
    """Beyond a GPT's context too: 40 tokens are more than three times 12."""
    model, text = make(), ids(length, seed=2).numpy()
    one_by_one = [-model.next_token_log_probs(text[:t])[text[t]] for t in range(length)]
    assert model.nll(text).dtype == np.float64
    np.testing.assert_allclose(model.nll(text), one_by_one, rtol=0, atol=1e-12)


@each_model
def test_the_predictions_after_a_prefix_are_those_after_a_start_token_and_the_prefix(make):
    model, text = make(), ids(2, 9, seed=3)
    logits = model.next_token_logits(torch.cat([torch.full((2, 1), model.start_id), text], dim=1))
    assert logits.shape == (2, 10, 7)
    log_probs = torch.log_softmax(logits.double(), -1)
    for row in range(2):
        for t in range(10):
            expected = model.next_token_log_probs(text[row, :t].numpy())
            np.testing.assert_allclose(log_probs[row, t].detach(), expected, rtol=0, atol=1e-12)


@each_model
def test_a_prediction_is_a_float64_distribution(make):
    for prefix in ([], [3], [1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0, 1]):
        log_p = make().next_token_log_probs(prefix)
        assert log_p.shape == (7,) and log_p.dtype == np.float64
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-14)


@each_model
def test_an_empty_text_has_no_losses(make):
    assert make().nll([]).shape == (0,)


@each_model
@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ([0, 7], ValueError, r"ids must be in \[0, 7\), got 7 at position 1"),
        ([-1], ValueError, r"ids must be in \[0, 7\), got -1 at position 0"),
        ([[0, 1]], ValueError, r"ids must be one text of shape \(N,\), got shape \(1, 2\)"),
        ([0.5], TypeError, "ids must hold integers"),
        (torch.tensor([True]), TypeError, "ids must hold integers"),
    ],
    ids=str,
)
def test_a_text_that_is_none_is_an_error_that_says_why(make, text, error, message):
    with pytest.raises(error, match=message):
        make().nll(text)
    with pytest.raises(error, match=message.replace("ids", "prefix")):
        make().next_token_log_probs(text)


@each_model
def test_a_model_reads_tensors_and_arrays_alike(make):
    model, text = make(), ids(9)
    assert np.array_equal(model.nll(text), model.nll(text.numpy()))
    assert np.array_equal(model.nll(text), model.nll(text.tolist()))


@each_torch_model
def test_forward_predicts_each_token_from_those_before_it_so_that_the_loss_needs_no_shift(make):
    model, text = make(), ids(1, 12, seed=4)
    loss = cross_entropy(model(text)[0], text[0], reduction="none")
    np.testing.assert_allclose(loss.detach(), model.nll(text[0]), rtol=0, atol=1e-13)


@each_torch_model
def test_the_logits_have_one_row_for_each_token_and_any_leading_shape(make):
    model = make()
    assert model(ids(5)).shape == (5, 7)
    assert model(ids(2, 3, 5)).shape == (2, 3, 5, 7)
    torch.testing.assert_close(model(ids(2, 3, 5))[1, 2], model(ids(2, 3, 5)[1, 2]), rtol=0, atol=1e-13)
    assert model(ids(3, 0)).shape == (3, 0, 7)


@each_torch_model
def test_a_text_is_predicted_alike_wherever_it_stands_in_a_batch(make):
    model, batch, order = make(), ids(6, 10), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model(batch)[order], model(batch[order]), rtol=0, atol=1e-13)


@each_torch_model
def test_the_gradient_of_the_loss_reaches_every_parameter(make):
    model, batch = make(), ids(8, 12)
    cross_entropy(model(batch).flatten(0, 1), batch.flatten()).backward()
    for name, parameter in model.named_parameters():
        if name.endswith(
            "qkv.bias"
        ):  # a constant added to every key changes no attention: its gradient is zero
            assert parameter.grad[16:32].abs().max() < 1e-15
            assert (parameter.grad[:16] != 0).all() and (parameter.grad[32:] != 0).all()
        else:
            assert (parameter.grad != 0).any(dim=-1).all(), name


@pytest.mark.parametrize(
    "make", [lambda seed: WindowModel(50, 4, seed=seed), lambda seed: GPT(50, context=32, seed=seed)]
)
@pytest.mark.parametrize("seed", range(3))
def test_the_untrained_loss_is_close_to_the_logarithm_of_the_vocabulary_size(make, seed):
    text = ids(64, 32, vocab_size=50)
    loss = cross_entropy(make(seed)(text).flatten(0, 1), text.flatten())
    assert loss.item() == pytest.approx(np.log(50), abs=0.02)


@pytest.mark.parametrize(
    "make", [lambda seed: WindowModel(7, 2, seed=seed), lambda seed: GPT(7, context=9, seed=seed)]
)
def test_the_seed_fixes_the_weights_and_leaves_the_global_state_alone(make):
    state = torch.random.get_rng_state()
    one, two, other = make(3), make(3), make(4)
    assert torch.equal(torch.random.get_rng_state(), state)
    text = ids(9)
    assert torch.equal(one(text), two(text))
    assert not torch.equal(one(text), other(text))


@pytest.mark.parametrize(
    "model", [WindowModel(7, 2, width=8, embedding=4, seed=3), gpt().float()], ids=["W", "G"]
)
def test_the_configuration_and_the_weights_rebuild_a_model(model):
    again = type(model)(**model.config)
    assert [*again.state_dict()] == [*model.state_dict()]
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids(9)), model(ids(9)))
    assert type(model)(**model.config).config == model.config


@pytest.mark.parametrize("bad", [8, -1])
@each_torch_model
def test_an_id_that_is_no_token_is_an_error_and_not_another_embedding(make, bad):
    with pytest.raises(ValueError, match=rf"ids must be in \[0, 7\], where 7 is the start token, got {bad}"):
        make()(torch.tensor([[0, bad, 1]]))


@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool), [[0, 1, 2]]], ids=str
)
@each_torch_model
def test_ids_that_are_no_tensor_of_integers_are_an_error(make, bad):
    with pytest.raises(TypeError, match="ids must be a tensor of integers"):
        make().next_token_logits(bad)


# WindowModel ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("argument", ["vocab_size", "context", "width", "embedding"])
def test_a_size_below_one_is_an_error_that_names_it(argument):
    arguments = {"vocab_size": 7, "context": 2, "width": 8, "embedding": 4} | {argument: 0}
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        WindowModel(**arguments)


def test_the_first_weights_are_the_draws_of_a_generator_in_the_order_of_the_formula():
    """The stored numbers of the chapters rest on it."""
    model, generator = WindowModel(7, 2, width=5, embedding=3, seed=11), torch.Generator().manual_seed(11)
    for parameter, shape, scale in [
        (model.embed, (8, 3), 1.0),
        (model.hidden_weight, (5, 6), (2 / 6) ** 0.5),
        (model.out_weight, (7, 5), 0.1 / 5**0.5),
    ]:
        torch.testing.assert_close(parameter.detach(), torch.randn(shape, generator=generator) * scale)
    assert not model.hidden_bias.any() and not model.out_bias.any()


def test_a_text_of_several_pieces_is_scored_like_one_piece():
    model, text = WindowModel(7, 3), ids(2500)
    whole = cross_entropy(model(text).double(), text, reduction="none")
    np.testing.assert_allclose(model.nll(text), whole.detach(), rtol=0, atol=1e-6)


# GPT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 3])
def test_a_later_token_changes_no_earlier_prediction_and_each_earlier_token_changes_all_later_ones(layers):
    model, text = gpt(layers=layers), ids(1, 12)
    before = model(text)
    for changed in range(12):
        other = text.clone()
        other[0, changed] = (other[0, changed] + 1) % 7
        difference = (model(other) - before).abs().amax(dim=-1)[0]
        assert not difference[: changed + 1].any()
        assert (difference[changed + 1 :] > 1e-9).all()


def reference_logits(model, text):
    """The formulas of the docstring, a position and a head at a time, without any of torch's layers."""
    state = {name: p.detach().numpy() for name, p in model.named_parameters()}

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def gelu(x):
        return x * ndtr(x)  # the normal distribution function

    x = state["embed"][[model.vocab_size, *text[:-1]]] + state["position"][: len(text)]
    size = model.width // model.heads
    for n in range(model.layers):
        q, k, v = np.split(linear(norm(x, f"blocks.{n}.norm_attention"), f"blocks.{n}.qkv"), 3, axis=1)
        out = np.zeros_like(x)
        for head in range(model.heads):
            part = slice(head * size, (head + 1) * size)
            for t in range(len(text)):
                weight = np.exp(q[t, part] @ k[: t + 1, part].T / size**0.5)
                out[t, part] = weight @ v[: t + 1, part] / weight.sum()
        x = x + linear(out, f"blocks.{n}.project")
        x = x + linear(
            gelu(linear(norm(x, f"blocks.{n}.norm_mlp"), f"blocks.{n}.expand")), f"blocks.{n}.contract"
        )
    return linear(norm(x, "norm"), "head")


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 4)])
def test_the_gpt_computes_the_formulas_of_its_docstring(layers, heads):
    model, text = gpt(layers=layers, heads=heads), ids(12, seed=6)
    with torch.no_grad():  # no parameter at a value that hides it
        for n, parameter in enumerate(model.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)))
    np.testing.assert_allclose(
        model(text).detach(), reference_logits(model, text.numpy()), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 4, 2], [1, 11], [12]], ids=str)
def test_reading_piece_by_piece_gives_the_logits_of_reading_at_once(dtype, tolerance, pieces):
    model, text = gpt(layers=3).to(dtype), ids(2, 12)
    whole, cache, found = model.next_token_logits(text), None, []
    for piece in text.split(pieces, dim=1):
        logits, cache = model.step(piece, cache)
        found.append(logits)
    assert whole.dtype == dtype
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=0, atol=tolerance)


def test_a_cache_can_be_continued_twice():
    model, text = gpt(), ids(1, 6)
    _, cache = model.step(text[:, :4])
    once, _ = model.step(text[:, 4:], cache)
    again, _ = model.step(text[:, 4:], cache)
    assert torch.equal(once, again)


def test_a_text_beyond_the_context_is_an_error_that_says_what_to_do():
    model = gpt()
    with pytest.raises(ValueError, match=r"ids has 13 tokens; the model's context is 12: .* nll\(ids\)"):
        model(ids(1, 13))
    _, cache = model.step(ids(1, 10))
    with pytest.raises(ValueError, match="ids has 3 tokens after 10 in the cache; the model's context is 12"):
        model.step(ids(1, 3), cache)
    assert model(ids(1, 12)).shape == (1, 12, 7)


@pytest.mark.parametrize("context", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("n", [1, 8, 9, 50])
def test_windows_score_each_token_once_with_at_least_half_a_context_before_it(context, n):
    model = gpt(context=context)
    scored = []
    for begin, first, end in model._windows(n):
        assert 0 <= begin <= first < end <= n and end - begin <= context
        assert begin == 0 or first - begin >= context - max(1, context // 2)
        assert {model.window_start(t) for t in range(first, end)} == {begin}
        scored += range(first, end)
    assert scored == list(range(n))


def test_the_losses_of_a_long_text_are_those_of_sliding_windows_that_begin_with_the_start_token():
    model, text = gpt(), ids(12 + 5 * 6)  # the first window, and five full steps of half a context
    windows = sliding_window_nll(
        model, text, max_length=12, stride=6, prefix_token_id=model.start_id, prefix_each_window=True
    )
    np.testing.assert_allclose(model.nll(text), windows.nll, rtol=0, atol=1e-12)


@pytest.mark.parametrize("argument", ["vocab_size", "context", "width", "layers", "heads"])
def test_a_size_of_the_gpt_that_is_no_positive_integer_is_an_error_that_names_it(argument):
    arguments = {"vocab_size": 7, "context": 4, "width": 8, "layers": 1, "heads": 2}
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        GPT(**arguments | {argument: 0})
    with pytest.raises(TypeError, match=f"{argument} must be an integer, got 1.5"):
        GPT(**arguments | {argument: 1.5})


def test_a_width_that_the_heads_cannot_share_is_an_error():
    with pytest.raises(ValueError, match="width is 10; it must be a multiple of heads, which is 4"):
        GPT(7, context=4, width=10)


def test_the_gpt_runs_under_bfloat16_autocast_near_its_float32_predictions():
    model, text = GPT(50, context=32), ids(4, 32, vocab_size=50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(text)
        cross_entropy(logits.flatten(0, 1), text.flatten()).backward()
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(text), rtol=0, atol=0.02)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpt_gives_the_same_predictions_on_a_gpu():
    model, text = gpt(), ids(40)
    expected, written = model.nll(text), generate(model, 30, np.random.default_rng(0))
    model = model.cuda()
    np.testing.assert_allclose(model.nll(text), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(model(text[:12].cuda()).cpu(), gpt()(text[:12]), rtol=0, atol=1e-10)
    assert np.array_equal(generate(model, 30, np.random.default_rng(0)), written)


def test_a_gpt_learns_to_look_back_further_than_a_window_could():
    """The token to predict stands at the start of the text, eleven tokens back: only attention can reach it."""
    model = GPT(5, context=12, width=16, layers=1, heads=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(150):
        batch = ids(64, 12, vocab_size=5, seed=step)
        batch[:, 11] = batch[:, 0]
        loss = cross_entropy(model(batch)[:, 11], batch[:, 11])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


# generate -------------------------------------------------------------------------------------------------


def fixed_model(p):
    """A model that gives each token its probability in p, whatever stands before it."""
    model = WindowModel(len(p), 1, seed=0)
    with torch.no_grad():
        model.out_weight.zero_()
        model.out_bias.copy_(torch.as_tensor(np.log(p)))
    return model


def assert_drawn_from(p, sample, limit):
    counts = np.bincount(sample, minlength=len(p))
    assert ((counts - sample.size * p) ** 2 / (sample.size * p)).sum() < limit


def test_generated_tokens_follow_the_probabilities_of_the_model():
    p = np.array([0.7, 0.2, 0.1])
    sample = generate(fixed_model(p), 2000, np.random.default_rng(0))
    assert_drawn_from(p, sample, 13.8)  # the 0.1 % point for two degrees of freedom


def test_a_temperature_raises_the_probabilities_to_its_inverse():
    p = np.array([0.7, 0.2, 0.1])
    sample = generate(fixed_model(p), 2000, np.random.default_rng(0), temperature=2.0)
    assert_drawn_from(p**0.5 / (p**0.5).sum(), sample, 13.8)


def test_top_k_leaves_the_most_likely_tokens_in_their_proportions():
    p = np.array([0.1, 0.4, 0.3, 0.2])
    sample = generate(fixed_model(p), 2000, np.random.default_rng(0), top_k=2)
    assert set(sample) == {1, 2}
    assert_drawn_from(np.array([4 / 7, 3 / 7]), sample - 1, 10.8)  # one degree of freedom
    assert set(generate(fixed_model(p), 50, np.random.default_rng(0), top_k=1)) == {1}
    everything = generate(fixed_model(p), 50, np.random.default_rng(0), top_k=9)
    assert np.array_equal(everything, generate(fixed_model(p), 50, np.random.default_rng(0)))


def test_a_temperature_near_zero_takes_the_most_likely_token():
    assert set(
        generate(fixed_model(np.array([0.3, 0.4, 0.3])), 50, np.random.default_rng(0), temperature=1e-3)
    ) == {1}


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


@each_model
@pytest.mark.parametrize("prompt", [[], [3, 1, 4], list(range(7)) * 5], ids=len)
def test_a_reader_predicts_what_the_model_predicts_after_the_same_text(make, prompt):
    """With its cache, beyond a GPT's context, and with several tokens read at once."""
    model, text = make(), ids(30, seed=8).tolist()
    reader = Reader(model, prompt)
    for t in range(30):
        if t % 7 != 3:
            expected = model.next_token_log_probs([*prompt, *text[:t]])
            np.testing.assert_allclose(reader.log_probs(), expected, rtol=0, atol=1e-12)
        reader.append(text[t])
    assert reader.ids.tolist() == [*prompt, *text]


def test_a_reader_does_not_ask_the_model_again_for_what_it_has_read():
    model, read = gpt(context=32), []
    step = model.step
    model.step = lambda ids, cache=None: (read.append(len(ids)), step(ids, cache))[1]
    generate(model, 30, np.random.default_rng(0))
    assert read == [1] * 30
    read.clear()
    generate(model, 100, np.random.default_rng(0))
    assert sum(read) < 200 and max(read) <= 32  # half a context is read again at each half of a context


def test_any_module_in_the_layout_can_be_sampled_from():
    class Loop(torch.nn.Module):
        def forward(self, ids):
            shifted = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], dim=1)
            return 100.0 * torch.nn.functional.one_hot((shifted + 1) % 4, 4)

    assert generate(Loop(), 5, np.random.default_rng(0), prompt=[1]).tolist() == [2, 3, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_tokens": 0}, ValueError, "n_tokens must be at least 1, got 0"),
        ({"n_tokens": 1, "temperature": 0}, ValueError, "temperature is 0; it must be positive"),
        ({"n_tokens": 1, "temperature": np.nan}, ValueError, "temperature"),
        ({"n_tokens": 1, "top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"n_tokens": 1, "prompt": [3]}, ValueError, r"in \[0, 3\), got 3"),
    ],
    ids=str,
)
def test_a_bad_request_is_an_error_that_names_the_argument(options, error, message):
    options = {"rng": np.random.default_rng(0)} | options
    with pytest.raises(error, match=message):
        generate(WindowModel(3, 1), **options)
