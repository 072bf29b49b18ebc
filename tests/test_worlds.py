"""The known world against oracles that share none of its code: enumeration, textbook sources, hand counts."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import numpy as np
import pytest
import torch

from lossutils import _unifilar
from lossutils._unifilar import conditional_entropies
from lossutils.worlds import KnownWorld, known_world

WORLD = known_world()
A_LETTERS = {"a": (("0", 0.5, "a"), ("1", 0.5, "b"))}
GOLDEN = A_LETTERS | {"b": (("0", 1.0, "a"),)}  # no two 1s in a row
EVEN = A_LETTERS | {"b": (("1", 1.0, "a"),)}  # 1s come in even runs: no finite context suffices


def strings(world, n):
    """Probability of every string of n words, by walking `transitions` from every state: no filter."""
    found = defaultdict(float)

    def walk(state, said, p):
        if len(said) == n:
            found[said] += p
            return
        for word, q, following in world.transitions(state):
            walk(following, (*said, word), p * q)

    for state, p in zip(world.states, world.stationary, strict=True):
        walk(state, (), float(p))
    return found


def entropy(probabilities):
    return -math.fsum(p * math.log(p) for p in probabilities)


@pytest.fixture(scope="module")
def blocks():
    return {n: strings(WORLD, n) for n in (1, 2, 3, 4)}


@pytest.fixture(scope="module")
def text():
    return WORLD.sample(200_000, np.random.default_rng(1))


# The grammar


def test_the_grammar_has_46_distinct_words_and_63_states():
    assert len(set(WORLD.vocabulary)) == WORLD.vocab_size == 46
    assert len(set(WORLD.states)) == WORLD.n_states == 63


def test_the_state_and_the_word_decide_the_next_state_and_probabilities_sum_to_one():
    for state in WORLD.states:
        ways = WORLD.transitions(state)
        assert len({word for word, _, _ in ways}) == len(ways)
        assert math.fsum(p for _, p, _ in ways) == pytest.approx(1, abs=1e-12)
        assert all(p > 0 and following in WORLD.states for _, p, following in ways)


def test_arrays_and_transitions_tell_the_same_story():
    assert ((WORLD.emission > 0) == (WORLD.successor >= 0)).all()
    for s, state in enumerate(WORLD.states):
        assert np.count_nonzero(WORLD.emission[s]) == len(WORLD.transitions(state))
        for word, p, following in WORLD.transitions(state):
            v = WORLD.vocabulary.index(word)
            assert WORLD.emission[s, v] == p
            assert WORLD.states[WORLD.successor[s, v]] == following


def test_every_sampled_sentence_parses_by_a_regular_expression():
    adjective = "(quiet|proud|small|lonely|strange)"
    habits = {
        "king": ("(guards|loves|seeks|misses|fears)", "(crown|castle|path|garden|bridge)"),
        "queen": ("(loves|watches|misses|paints|seeks)", "(garden|castle|moon|crown|path)"),
        "knight": ("(seeks|guards|finds|loves|misses)", "(bridge|path|castle|crown|river)"),
        "farmer": ("(watches|paints|loves|misses|guards)", "(field|horse|hill|river|garden)"),
        "shepherd": ("(follows|finds|watches|guards|paints)", "(hill|star|field|path|horse)"),
        "miller": ("(watches|follows|fears|misses|finds)", "(river|bridge|horse|field|star)"),
        "captain": ("(follows|fears|seeks|watches|misses)", "(star|storm|boat|moon|harbour)"),
        "sailor": ("(misses|loves|paints|fears|watches)", "(boat|harbour|moon|storm|path)"),
        "pirate": ("(finds|seeks|follows|fears|loves)", "(harbour|boat|river|storm|star)"),
    }
    forms = []
    for who, (verb, thing) in habits.items():
        clause = f"((often|always|never|gladly|secretly) )?{verb} (the|a) ({adjective} )?{thing}"
        forms.append(f"(the|a) ({adjective} )?{who} {clause}( and {clause})*")
    sentence = re.compile("|".join(forms))
    ids = WORLD.sample(50_000, np.random.default_rng(3), start="sentence")
    sentences = WORLD.decode(ids).split(" .")[:-1]  # the last one is cut off
    assert len(sentences) > 4000
    assert [s for s in sentences if not sentence.fullmatch(s.strip())] == []


def test_no_noun_or_adjective_needs_the_article_an():
    after_a = {
        word
        for state in WORLD.states
        if any(w == "a" for w, _, _ in WORLD.transitions(state))
        for word, _, _ in WORLD.transitions(dict((w, s) for w, _, s in WORLD.transitions(state))["a"])
    }
    assert len(after_a) == 5 + 9 + 14
    assert not [word for word in after_a if word[0] in "aeiou"]


def test_the_topic_stays_with_probability_four_fifths(text):
    topic = {"king": 0, "queen": 0, "knight": 0, "farmer": 1, "shepherd": 1, "miller": 1}
    topic |= {"captain": 2, "sailor": 2, "pirate": 2}
    seen = np.array([topic[w] for w in WORLD.decode(text).split() if w in topic])
    stays = (seen[1:] == seen[:-1]).mean()
    assert stays == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / (len(seen) - 1)))


def test_the_subject_is_remembered_across_adjectives_adverbs_and_and():
    prefix = (
        "the small king secretly loves a lonely castle and never misses the path and often seeks a strange"
    )
    p = WORLD.next_token_probs(WORLD.encode(prefix))[-1]
    told = {WORLD.vocabulary[i]: round(float(p[i]), 12) for i in p.nonzero()[0]}
    assert told == {"crown": 0.4, "castle": 0.2, "path": 0.2, "garden": 0.1, "bridge": 0.1}


def test_the_last_topic_decides_what_the_next_sentence_is_about():
    p = WORLD.next_token_probs(WORLD.encode("a pirate seeks the river . the quiet"))[-1]
    told = {WORLD.vocabulary[i]: round(float(p[i]), 12) for i in p.nonzero()[0]}
    sea = {"captain": 0.4, "sailor": 0.2, "pirate": 0.2}
    court = {"king": 0.05, "queen": 0.025, "knight": 0.025}
    farm = {"farmer": 0.05, "shepherd": 0.025, "miller": 0.025}
    assert told == sea | court | farm


# Entropy


def test_the_entropy_rate_is_what_a_reader_gets_by_hand():
    h2, h3, h5 = entropy([0.6, 0.4]), entropy([0.5, 0.25, 0.25]), entropy([0.4, 0.2, 0.2, 0.1, 0.1])
    adjective = math.log(2) + 0.5 * h5
    opening = h2 + adjective + entropy([0.8, 0.1, 0.1]) + h3
    clause = (h2 + 0.4 * h5) + h5 + h2 + adjective + h5 + h2
    length = (1 + 0.5 + 1) + (0.4 + 1 + 1 + 0.5 + 1 + 1) / 0.6
    assert WORLD.entropy_rate == pytest.approx((opening + clause / 0.6) / length, abs=1e-13)


def test_the_hand_count_in_the_docstring_has_the_right_digits():
    for digits in ("3.7802", "6.9775", "15.409", "10.667", "1.4446"):
        assert digits in KnownWorld.__doc__
    assert round(3.7802 + 6.9775 / 0.6, 3) == 15.409
    assert round(15.409 / 10.667, 3) == round(WORLD.entropy_rate, 3)


@pytest.mark.parametrize("rules", [GOLDEN, EVEN])
def test_textbook_sources_have_their_textbook_entropy(rules):
    world = KnownWorld(rules, ("0", "1"))
    assert world.stationary == pytest.approx([2 / 3, 1 / 3], abs=1e-15)
    assert world.entropy_rate == pytest.approx(2 / 3 * math.log(2), abs=1e-15)


def test_the_golden_mean_source_needs_one_token_of_context_and_no_more():
    world = KnownWorld(GOLDEN, ("0", "1"))
    one_third = entropy([1 / 3, 2 / 3])
    assert world.staircase(4) == pytest.approx(
        [math.log(2), one_third] + 3 * [2 / 3 * math.log(2)], abs=1e-14
    )


@pytest.mark.parametrize("rules", [GOLDEN, EVEN])
def test_the_staircase_equals_block_entropy_differences_of_small_sources_up_to_order_twelve(rules):
    world = KnownWorld(rules, ("0", "1"))
    block = [0.0] + [entropy(strings(world, n).values()) for n in range(1, 13)]
    assert world.staircase(12)[1:] == pytest.approx(np.diff(block), abs=1e-13)
    if rules is EVEN:
        assert (np.diff(world.staircase(12)) < 0).all()


def test_the_staircase_equals_block_entropy_differences_of_the_book_world(blocks):
    block = [0.0] + [entropy(blocks[n].values()) for n in (1, 2, 3, 4)]
    assert WORLD.staircase(4)[0] == pytest.approx(math.log(46), abs=1e-15)
    assert WORLD.staircase(4)[1:] == pytest.approx(np.diff(block), abs=1e-12)


def test_the_staircase_never_rises_and_sinks_to_the_entropy_rate():
    # The raw values first: `staircase` tidies the last bit, and must not hide more than that.
    raw = conditional_entropies(WORLD.emission, WORLD.successor, WORLD.stationary, 32)
    assert (np.diff(raw) <= 1e-14).all()
    assert (raw >= WORLD.entropy_rate - 1e-13).all()
    assert raw[-1] - WORLD.entropy_rate < 1e-5
    stairs = WORLD.staircase(32)
    assert stairs[1:] == pytest.approx(raw, abs=1e-13)
    assert (np.diff(stairs) <= 0).all() and stairs[-1] >= WORLD.entropy_rate


def test_leaving_out_what_is_negligible_does_not_change_the_staircase(monkeypatch):
    tidy = WORLD.staircase(24)
    monkeypatch.setattr(_unifilar, "_NEGLIGIBLE", 0.0)
    assert tidy == pytest.approx(WORLD.staircase(24), abs=1e-13)


def test_the_staircase_has_the_steps_that_the_book_tells_about():
    stairs = WORLD.staircase(5)
    assert stairs[1] - stairs[2] > 1.2  # one word of context tells much
    assert (stairs[2:5] - stairs[3:6] > 0.05).all()  # each further word a little
    assert 0.05 < stairs[5] - WORLD.entropy_rate < 0.15  # and the long memory is still out of reach


def test_the_stationary_distribution_is_where_power_iteration_ends():
    share = np.full(WORLD.n_states, 1 / WORLD.n_states)
    row = {state: i for i, state in enumerate(WORLD.states)}
    step = np.zeros((WORLD.n_states, WORLD.n_states))
    for state in WORLD.states:
        for _, p, following in WORLD.transitions(state):
            step[row[state], row[following]] += p
    for _ in range(4000):
        share = (share + share @ step) / 2  # lazy steps, so that no cycle can keep it from settling
    assert WORLD.stationary == pytest.approx(share, abs=1e-13)
    assert WORLD.stationary.min() > 0


def test_the_unigram_distribution_is_the_enumerated_one(blocks):
    assert WORLD.unigram == pytest.approx([blocks[1][(word,)] for word in WORLD.vocabulary], abs=1e-15)
    assert WORLD.unigram.sum() == pytest.approx(1, abs=1e-14)


# The filter


def test_the_filter_equals_ratios_of_enumerated_string_probabilities(blocks):
    rng = np.random.default_rng(5)
    contexts = list(blocks[3])
    for k in rng.choice(len(contexts), size=60, replace=False):
        words = contexts[k]
        told = WORLD.next_token_probs(WORLD.encode(" ".join(words)))
        for t in range(4):
            whole = blocks[t][words[:t]] if t else 1.0
            right = [blocks[t + 1].get((*words[:t], word), 0.0) / whole for word in WORLD.vocabulary]
            assert told[t] == pytest.approx(right, abs=1e-12)


def test_the_filter_equals_forward_matrix_products_on_long_prefixes_of_the_even_source():
    world = KnownWorld(EVEN, ("0", "1"))
    matrices = {0: np.array([[0.5, 0], [0, 0]]), 1: np.array([[0, 0.5], [1, 0]])}
    for seed in range(5):
        ids = world.sample(30, np.random.default_rng(seed))
        forward, told = np.array([2 / 3, 1 / 3]), world.next_token_probs(ids)
        for t in range(31):
            right = [(forward @ matrices[v]).sum() / forward.sum() for v in (0, 1)]
            assert told[t] == pytest.approx(right, abs=1e-13)
            if t < 30:
                forward = forward @ matrices[int(ids[t])]


def test_every_row_of_the_filter_sums_to_one_and_the_first_is_the_unigram(text):
    told = WORLD.next_token_probs(text[:4096].reshape(64, 64))
    assert told.shape == (64, 65, 46) and told.dtype == np.float64
    assert np.abs(told.sum(-1) - 1).max() < 1e-12
    assert np.abs(told[:, 0] - WORLD.unigram).max() < 1e-15


@pytest.mark.parametrize("start", ["stream", "sentence"])
def test_nll_is_minus_the_log_of_what_the_filter_said(start):
    ids = WORLD.sample(50, np.random.default_rng(6), 20, start=start)
    told = WORLD.next_token_probs(ids, start=start)[:, :-1]
    right = -np.log(np.take_along_axis(told, ids[..., None], axis=-1)[..., 0])
    assert WORLD.nll(ids, start=start) == pytest.approx(right, abs=1e-12)
    assert WORLD.nll(ids[0], start=start) == pytest.approx(right[0], abs=1e-12)


def test_a_batch_gives_what_its_rows_give():
    ids = WORLD.sample(30, np.random.default_rng(7), 5)
    for name in ("next_token_probs", "state_probs", "nll"):
        together = getattr(WORLD, name)(ids)
        assert (together == np.stack([getattr(WORLD, name)(row) for row in ids])).all()


def test_a_sentence_start_can_only_say_an_article():
    p = WORLD.next_token_probs([], start="sentence")[0]
    assert {WORLD.vocabulary[i]: round(float(p[i]), 12) for i in p.nonzero()[0]} == {"the": 0.6, "a": 0.4}
    assert WORLD.nll(WORLD.encode("the"), start="sentence") == pytest.approx([-math.log(0.6)], abs=1e-12)


@pytest.mark.parametrize("method", ["next_token_probs", "state_probs", "nll"])
@pytest.mark.parametrize(
    "words, position",
    [
        ("the the", 1),
        ("king loves a crown . castle", 5),
        ("the king follows", 2),  # a king has no such habit
        ("a sailor misses the boat and gladly seeks", 7),
    ],
)
def test_an_impossible_text_is_refused_at_its_first_impossible_position(method, words, position):
    with pytest.raises(ValueError, match=f"{words.split()[position]!r} at position {position} "):
        getattr(WORLD, method)(WORLD.encode(words))


def test_an_impossible_row_of_a_batch_is_named():
    ids = np.stack([WORLD.encode("the king loves"), WORLD.encode("king the loves")])
    for method in (WORLD.next_token_probs, WORLD.nll):
        with pytest.raises(ValueError, match="row 1 'the' at position 1 "):
            method(ids)


# Samples


def test_the_mean_surprise_of_a_long_text_is_the_entropy_rate_within_four_standard_errors(text):
    nll = WORLD.nll(text)[1000:]
    means = nll[: len(nll) // 500 * 500].reshape(-1, 500).mean(1)
    error = means.std(ddof=1) / math.sqrt(len(means))
    assert 0.001 < error < 0.01
    assert abs(means.mean() - WORLD.entropy_rate) < 4 * error


def test_words_come_as_often_as_the_unigram_says(text):
    parts = text.reshape(200, 1000)
    share = np.stack([np.bincount(part, minlength=46) for part in parts]) / 1000
    z = (share.mean(0) - WORLD.unigram) / (share.std(0, ddof=1) / math.sqrt(200))
    assert np.abs(z).max() < 4.5  # the largest of 46


@pytest.mark.parametrize("start", ["stream", "sentence"])
def test_the_floor_is_the_mean_surprise_at_each_position_within_four_standard_errors(start):
    nll = WORLD.nll(WORLD.sample(16, np.random.default_rng(8), 20_000, start=start), start=start)
    z = (nll.mean(0) - WORLD.floor(16, start=start)) / (nll.std(0, ddof=1) / math.sqrt(len(nll)))
    assert np.abs(z).max() < 4


def test_the_floor_is_the_tail_of_the_staircase_and_its_prefixes_agree():
    assert (WORLD.staircase(8)[1:] == WORLD.floor(8)).all()
    assert (WORLD.floor(3) == WORLD.floor(8)[:3]).all()


def test_a_mid_stream_window_of_32_costs_more_than_the_entropy_rate():
    assert 0.05 < WORLD.floor(32).mean() - WORLD.entropy_rate < 0.15


def test_the_same_generator_gives_the_same_text_and_another_seed_another():
    def draw(seed):
        return WORLD.sample(40, np.random.default_rng(seed), 3)

    assert (draw(0) == draw(0)).all()
    assert (draw(0) != draw(1)).any()
    assert draw(0).shape == (3, 40) and draw(0).dtype == np.int64
    assert (draw(0)[0] != draw(0)[1]).any()


def test_one_long_text_is_drawn_as_a_row_of_the_vectorised_sampler():
    """The single row is made with plain lists; a generator that repeats itself compares it with arrays."""

    class Repeating(np.random.Generator):
        def random(self, size=None):
            one = np.random.default_rng(9).random(size if np.ndim(size) == 0 else size[1])
            return one if np.ndim(size) == 0 else np.broadcast_to(one, size)

    many = WORLD.sample(500, Repeating(np.random.PCG64(0)), 3)
    single = WORLD.sample(500, Repeating(np.random.PCG64(0)))
    assert single.shape == (500,) and (many[0] == single).all()
    same = WORLD.sample(50, np.random.default_rng(4))
    assert (same == WORLD.sample(50, np.random.default_rng(4), 1)[0]).all()


def test_a_text_from_a_sentence_start_starts_with_an_article_and_one_from_the_stream_need_not():
    articles = WORLD.encode("the a")
    assert np.isin(WORLD.sample(1, np.random.default_rng(0), 500, start="sentence"), articles).all()
    share = np.isin(WORLD.sample(1, np.random.default_rng(0), 4000), articles).mean()
    assert share == pytest.approx(WORLD.unigram[articles].sum(), abs=4 * 0.5 / math.sqrt(4000))


# Divergence


def test_the_divergence_of_the_world_from_itself_is_zero_and_of_any_other_model_is_positive():
    ids = WORLD.sample(40, np.random.default_rng(10), 6)
    with np.errstate(divide="ignore"):
        own = np.log(WORLD.next_token_probs(ids))
    assert WORLD.kl(ids, own) == pytest.approx(np.zeros((6, 41)), abs=1e-13)
    other = np.log(np.random.default_rng(0).dirichlet(np.ones(46), size=(6, 40)))
    assert (WORLD.kl(ids, other) > 0).all()


def test_the_divergence_from_the_uniform_model_is_log_v_minus_entropy():
    ids = WORLD.encode("the king often loves a castle and fears the")
    told = WORLD.next_token_probs(ids)
    right = [math.log(46) - entropy(row[row > 0]) for row in told]
    assert WORLD.kl(ids, np.full((10, 46), -math.log(46))) == pytest.approx(right, abs=1e-13)


def test_loss_minus_floor_of_a_model_is_its_mean_divergence_within_four_standard_errors():
    ids = WORLD.sample(12, np.random.default_rng(11), 5000)
    log_q = np.broadcast_to(np.log(0.9 * WORLD.unigram + 0.1 / 46), (*ids.shape, 46))
    loss = np.take_along_axis(log_q, ids[..., None], -1)[..., 0] * -1
    difference = (loss - WORLD.nll(ids) - WORLD.kl(ids, log_q)).mean(1)
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / math.sqrt(len(difference))
    assert (loss.mean() - WORLD.floor(12).mean()) == pytest.approx(WORLD.kl(ids, log_q).mean(), abs=0.03)


def test_first_shifts_the_rows_to_the_positions_they_predict():
    ids = WORLD.sample(10, np.random.default_rng(12), 2)
    log_q = np.log(np.random.default_rng(0).dirichlet(np.ones(46), size=(2, 11)))
    whole = WORLD.kl(ids, log_q)
    assert (WORLD.kl(ids, log_q[:, 3:7], first=3) == whole[:, 3:7]).all()
    assert (WORLD.kl(ids[0], log_q[0, 10:], first=10) == whole[0, 10:]).all()


def test_a_model_that_rules_out_what_may_come_has_infinite_divergence_and_ruling_out_the_rest_is_free():
    ids = WORLD.encode("the king loves")
    with np.errstate(divide="ignore"):
        articles_only = np.log(np.where(np.isin(np.arange(46), WORLD.encode("the a")), 0.5, 0.0))
    kl = WORLD.kl(ids, np.tile(articles_only, (4, 1)))
    assert np.isinf(kl[:3]).all()
    assert kl[3] == pytest.approx(math.log(2) - entropy([0.6, 0.4]), abs=1e-13)


def test_a_sum_that_rounding_has_moved_off_one_does_not_move_the_divergence():
    ids = WORLD.sample(20, np.random.default_rng(14))
    log_q = np.log(np.random.default_rng(0).dirichlet(np.ones(46), size=20))
    assert WORLD.kl(ids, log_q + 5e-5) == pytest.approx(WORLD.kl(ids, log_q), abs=1e-12)


def test_torch_log_probabilities_in_float32_with_gradients_are_accepted():
    ids = WORLD.sample(20, np.random.default_rng(13), 2)
    logits = torch.randn(2, 20, 46, generator=torch.Generator().manual_seed(0), requires_grad=True)
    kl = WORLD.kl(torch.as_tensor(ids), torch.log_softmax(logits, -1))
    right = WORLD.kl(ids, torch.log_softmax(logits.detach().double(), -1).numpy())
    assert kl == pytest.approx(right, abs=1e-6)


# Words, errors, immutability


def test_decode_undoes_encode():
    line = "a proud king loves the path ."
    assert WORLD.decode(WORLD.encode(f"  {line}\n")) == line
    assert WORLD.encode(line).dtype == np.int64
    assert WORLD.decode([]) == "" and WORLD.encode("").shape == (0,)
    assert (WORLD.encode(WORLD.decode(np.arange(46))) == np.arange(46)).all()


def test_the_world_is_built_once_and_cannot_be_changed():
    assert known_world() is known_world()
    with pytest.raises(AttributeError):
        WORLD.vocabulary = ()
    for array in (WORLD.emission, WORLD.successor, WORLD.stationary, WORLD.unigram):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


RNG = np.random.default_rng(0)
UNIFORM = np.full((2, 46), -math.log(46))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: WORLD.encode("the dragon"), ValueError, "text has 'dragon' at position 1"),
        (lambda: WORLD.encode("The king"), ValueError, "'The' at position 0"),
        (lambda: WORLD.encode(["the"]), TypeError, "text must be a str, got list"),
        (lambda: WORLD.decode([0, 46]), ValueError, r"ids must be in \[0, 46\), got 46 at position 1"),
        (lambda: WORLD.decode([-1]), ValueError, "got -1 at position 0"),
        (lambda: WORLD.decode([[1, 2]]), ValueError, r"got shape \(1, 2\)"),
        (lambda: WORLD.decode([0.5]), TypeError, "ids must be integers, got float64"),
        (lambda: WORLD.nll([True]), TypeError, "ids must be integers, got bool"),
        (lambda: WORLD.nll(3), ValueError, r"ids must have shape \(T,\) or \(B, T\), got shape \(\)"),
        (lambda: WORLD.nll([[2, 3], [2, 99]]), ValueError, "got 99 at position 1"),
        (lambda: WORLD.nll([2], start="middle"), ValueError, "start must be one of .*'middle'"),
        (lambda: WORLD.next_token_probs(np.zeros((1, 1, 1), int)), ValueError, r"got shape \(1, 1, 1\)"),
        (lambda: WORLD.sample(5, 0), TypeError, "rng must be a numpy.random.Generator, got int"),
        (lambda: WORLD.sample(0, RNG), ValueError, "n_tokens must be at least 1, got 0"),
        (lambda: WORLD.sample(5, RNG, 0), ValueError, "n_sequences must be at least 1, got 0"),
        (lambda: WORLD.sample(5.0, RNG), TypeError, "n_tokens must be an integer, got 5.0"),
        (lambda: WORLD.sample(5, RNG, start="end"), ValueError, "start must be one of .*'end'"),
        (lambda: WORLD.floor(0), ValueError, "n must be at least 1, got 0"),
        (lambda: WORLD.staircase(-1), ValueError, "max_order must be at least 0, got -1"),
        (lambda: WORLD.staircase(True), TypeError, "max_order must be an integer, got True"),
        (lambda: WORLD.transitions("king"), ValueError, "state must be one of world.states, got 'king'"),
        (
            lambda: WORLD.kl([2], np.zeros((1, 46))),
            ValueError,
            "logsumexp of a row must be 0 within 1e-4, got 3.8",
        ),
        (lambda: WORLD.kl([2], UNIFORM * np.nan), ValueError, "got nan"),
        (
            lambda: WORLD.kl([2], np.where(np.eye(2, 46), 0.1, UNIFORM)),
            ValueError,
            "logsumexp of a row must be 0",
        ),
        (lambda: WORLD.kl([2], UNIFORM[:, :45]), ValueError, r"got shape \(2, 45\)"),
        (lambda: WORLD.kl([2], UNIFORM[None]), ValueError, r"got shape \(1, 2, 46\)"),
        (lambda: WORLD.kl([2], UNIFORM, first=1), ValueError, r"first \+ N <= T \+ 1 = 2, got .* first=1"),
        (lambda: WORLD.kl([2], UNIFORM, first=-1), ValueError, "first must be at least 0, got -1"),
        (lambda: WORLD.kl([2], UNIFORM.astype(complex)), TypeError, "log_q must hold"),
        (lambda: KnownWorld(GOLDEN, "01").sample(3, RNG, start="sentence"), ValueError, "needs a world with"),
    ],
)
def test_bad_input_is_refused_with_its_name_and_the_rule(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "rules, vocabulary, message",
    [
        ({}, "01", "at least one state"),
        ({"a": [("0", 0.5, "a"), ("0", 0.5, "b")], "b": [("1", 1, "a")]}, "01", "says '0' in two ways"),
        ({"a": [("0", 0.5, "a"), ("1", 0.4, "a")]}, "01", "sum to 0.9"),
        ({"a": [("0", 0.5, "a"), ("2", 0.5, "a")]}, "01", "says '2', which is not in the vocabulary"),
        ({"a": [("0", 1.0, "c")]}, "01", "leads to 'c', which is not a state"),
        ({"a": [("0", 1.5, "a"), ("1", -0.5, "a")]}, "01", r"probability 1.5: must be in \(0, 1\]"),
        ({"a": [("0", math.nan, "a")]}, "01", "probability nan"),
        ({"a": [("0", 1.0, "a")], "b": [("1", 1.0, "a")]}, "01", "'a' never reaches 'b'"),
        ({"a": [("0", 1.0, "a")]}, ("0", "0"), "each word once"),
        ({"a": [("0", 1.0, "a")]}, ("0", "two words"), "words without spaces, got 'two words'"),
    ],
)
def test_rules_that_are_no_unifilar_source_are_refused(rules, vocabulary, message):
    with pytest.raises(ValueError, match=message):
        KnownWorld(rules, vocabulary)
