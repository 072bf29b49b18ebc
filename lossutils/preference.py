"""Losses over pairs of answers, the log-probabilities they need, and estimates of a KL divergence.

All these losses are a simple function of a difference of log-probabilities that are themselves hundreds or
thousands of nats large.  Three ideas carry the accuracy.

1. *The difference is exact.*  Two, four or five terms are added with error-free transformations, so that the
   margin comes out as an unevaluated sum of two numbers, hi + lo, of twice the working precision.
2. *The product with beta is exact as well* (Dekker), since exp turns an absolute error of the margin into a
   relative error of the loss.
3. *Everything is written as a sum of terms of one sign*: sigmoid(-x) for 1 - sigmoid(x), softplus for
   -log(sigmoid), the ratio of two odds for the difference of their logs.

Working precision is float64 (on devices without it float32), and float64 for float64, float32 for everything
narrower is what comes back.  Tensors are computed where they are; NumPy arrays and plain numbers go through
torch on the CPU and come back as arrays.  Log-probabilities are in nats throughout.
"""

from __future__ import annotations

import numpy as np
import torch

from lossutils import _checks
from lossutils._compensated import (
    BernoulliKL,
    ExcessExp,
    OddsLoss,
    clean,
    exact_sum,
    negative,
    scaled,
    shifted,
    sigmoid,
    softplus,
    two_sum,
)
from lossutils.cross_entropy import REDUCTIONS, cross_entropy
from lossutils.logspace import result_dtype, working_dtype

__all__ = [
    "bradley_terry_loss",
    "dpo_loss",
    "kl_estimate",
    "kto_loss",
    "orpo_loss",
    "sequence_logprobs",
    "simpo_loss",
]

IGNORED = -100
LOSS_TYPES = (
    "sigmoid",
    "robust",
    "exo_pair",
    "hinge",
    "ipo",
    "sppo_hard",
    "nca_pair",
    "apo_zero",
    "apo_down",
)
KINDS = ("k1", "k2", "k3")


# ----------------------------------------------------------------------------------------------------------
# what goes in, and what comes out


def _inputs(**arguments):
    """Return the tensors in the working dtype, their names' order kept, and a function for the result."""
    values = {name: _checks.as_float(name, x) for name, x in arguments.items()}
    _checks.same_kind(**values)
    first = next(iter(values))
    numpy = not _checks.is_torch(values[first])
    if numpy:
        values = {name: torch.tensor(x) for name, x in values.items()}
    dtypes = {result_dtype(x) for x in values.values()}
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    work = torch.float64 if dtype == torch.float64 else working_dtype(values[first])

    def finish(losses, reduction):
        if reduction == "sum":
            losses = losses.sum()
        elif reduction == "mean":
            losses = losses.mean() if losses.numel() else losses.sum() * torch.nan
        losses = losses.to(dtype)
        return losses.numpy()[()] if numpy else losses

    return [x.to(work) for x in values.values()], finish


def _same_shapes(**arguments) -> None:
    shapes = {name: tuple(np.shape(x)) for name, x in arguments.items()}
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise ValueError(
                f"{name} must have {first}'s shape {shapes[first]}, got {shape}: no broadcasting here"
            )


def _positive(name: str, value) -> float:
    value = _checks.real(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return value


# ----------------------------------------------------------------------------------------------------------
# public functions


def sequence_logprobs(logits, labels, mask=None, *, shift: bool = True, average: bool = False):
    """Return the log-probability of each labelled sequence under a causal model's logits.

    Use it for the inputs of the preference losses: with `labels` (or `mask`) leaving out the prompt, it is
    the log-probability of the response given the prompt.

    With V classes, T positions and the counted positions t of a row::

        sum:     sum_t log_softmax(logits[t - 1])[labels[t]]      shift=True:  logits[t] predict labels[t + 1]
                 sum_t log_softmax(logits[t])[labels[t]]          shift=False: they are aligned already
        average: the same over the number of counted positions

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (..., T, V)
        A causal model's output, unnormalised (nats); float64, float32, float16 or bfloat16.
    labels : integer array_like or torch.Tensor, shape (..., T)
        The tokens that were there; -100 marks positions that don't count (prompt, padding).  With
        ``shift=True`` these are the inputs of the model themselves, not yet moved.
    mask : bool or 0/1 integer array_like or torch.Tensor, shape (..., T), optional
        Positions of `labels` that count, in addition to those that are not -100.  Whatever `labels` holds
        where the mask is 0 is not looked at.
    shift : bool
        Whether position t of the logits predicts position t + 1 of the labels.  The first label and the last
        logits are then not used.  Forget it and a model that copies its input looks perfect.
    average : bool
        Divide by the number of counted tokens.  DPO, KTO and SPPO are derived for the sum; ORPO and SimPO for
        the average; for IPO see :func:`dpo_loss`.

    Returns
    -------
    array or torch.Tensor, shape (...)
        Nats, <= 0.  float64 for float64 and NumPy integer logits, else float32.

    Raises
    ------
    ValueError
        Shapes that do not fit; on the CPU a counted label outside [0, V), or a mask that holds something else
        than 0 and 1.
    TypeError
        Logits that are not floating, labels that are not integers, a mask that is neither boolean nor
        integer, tensors mixed with arrays, `shift` or `average` that is not a boolean.

    Notes
    -----
    Limits.  A sequence with no counted token has the log-probability 0 (the empty product is 1) as a sum, and
    NaN as an average; the gradient is zero in both.  A counted label whose logit is -inf gives -inf.  A row
    of logits that is all -inf, or holds +inf or NaN, gives NaN if it counts.

    Accuracy: at most 4 ULP in float32 and float64, at any length: tokens come from
    :func:`lossutils.cross_entropy.cross_entropy`, the sum is kept in float64 and compensated.  A float32
    result near -1e4 has steps of 1e-3, whatever is done before: use float64 logits if a difference of such
    sums must be finer.  The logits are not copied: the labels move, not they.

    Examples
    --------
    Of three tokens the first is not predicted; the other two have probability 1/4 each.

    >>> logits = np.zeros((1, 3, 4))
    >>> sequence_logprobs(logits, [[0, 2, 3]]) / np.log(4)
    array([-2.])
    >>> sequence_logprobs(logits, [[-100, -100, 3]]) / np.log(4)
    array([-1.])

    References
    ----------
    Rafailov et al. (2023), arXiv:2305.18290, section 4: log pi(y | x) is the sum over the response.

    See Also
    --------
    lossutils.cross_entropy.cross_entropy : the tokens' losses themselves.
    dpo_loss : what to do with four of these.
    """
    logits = _checks.as_float("logits", logits)
    labels = _checks.as_integer("labels", labels)
    _checks.same_kind(logits=logits, labels=labels)
    for name, value in (("shift", shift), ("average", average)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    shape = tuple(logits.shape)
    if len(shape) < 2 or shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., T, V) with V >= 1, got {shape}")
    if tuple(labels.shape) != shape[:-1]:
        raise ValueError(
            f"labels must have shape {shape[:-1]} for logits of shape {shape}, got {tuple(labels.shape)}"
        )
    xp = torch if _checks.is_torch(logits) else np
    if mask is not None:
        labels = xp.where(_counted("mask", mask, labels), labels, IGNORED)
    if shift:
        moved = xp.full_like(labels, IGNORED)
        moved[..., :-1] = labels[..., 1:]
        labels = moved
    counts = labels != IGNORED
    if _checks.may_read(labels, None):
        outside = counts & ((labels < 0) | (labels >= shape[-1]))
        if outside.any():
            raise ValueError(
                f"labels must be in [0, {shape[-1]}) or {IGNORED} where they count, "
                f"got {labels[outside].reshape(-1)[0].item()}"
            )
    losses = cross_entropy(
        logits.reshape(-1, shape[-1]),
        labels.reshape(-1),
        ignore_index=IGNORED,
        reduction="none",
        validate=False,
    )
    dtype = result_dtype(logits)
    losses = losses.reshape(shape[:-1])
    n = counts.sum(-1)
    if xp is np:
        total = np.asarray(_compensated_sum(torch.tensor(losses, dtype=torch.float64)))
        if average:
            total = np.where(n == 0, np.nan, total / np.maximum(n, 1))
        with np.errstate(over="ignore"):
            return (0.0 - total).astype(dtype)[()]
    total = _compensated_sum(losses.to(working_dtype(logits)))
    if average:
        total = torch.where(n == 0, torch.nan, total / n.clamp(min=1))
    return (0.0 - total).to(dtype)


def _counted(name: str, mask, labels):
    if not _checks.is_torch(mask):
        mask = np.asarray(mask)
    boolean = mask.dtype in (torch.bool, np.dtype(bool))
    mask = mask if boolean else _checks.as_integer(name, mask)
    _checks.same_kind(labels=labels, **{name: mask})
    if tuple(mask.shape) != tuple(labels.shape):
        raise ValueError(f"{name} must have labels' shape {tuple(labels.shape)}, got {tuple(mask.shape)}")
    if boolean:
        return mask
    if _checks.may_read(mask, None):
        odd = (mask != 0) & (mask != 1)
        if odd.any():
            raise ValueError(f"{name} must hold 0 and 1 only, got {mask[odd].reshape(-1)[0].item()}")
    return mask != 0


def _compensated_sum(x):
    """Return x.sum(-1) as if summed in twice the precision; the gradient is that of the plain sum."""
    plain = x.sum(-1)
    with torch.no_grad():
        hi, lo = x.detach(), torch.zeros_like(x)
        while hi.shape[-1] > 1:
            if hi.shape[-1] % 2:
                hi, lo = (torch.nn.functional.pad(v, (0, 1)) for v in (hi, lo))
            hi, error = two_sum(hi[..., 0::2], hi[..., 1::2])
            lo = lo[..., 0::2] + lo[..., 1::2] + error
        total = (hi + lo).sum(-1)
        correction = clean(total - plain)
    return plain + correction


def dpo_loss(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: str = "sigmoid",
    reduction: str = "mean",
):
    """Return the DPO loss of pairs of answers, or one of its published variants.

    Use it to train on preferences without a reward model: the log-ratio of policy and reference is the
    reward.

    With a = chosen_logps - ref_chosen_logps, b = rejected_logps - ref_rejected_logps, m = a - b (one number a
    pair), beta, eps = `label_smoothing`, s(x) = sigmoid(x) and sp(x) = log(1 + exp(x)) = -log s(-x)::

        sigmoid    (1 - eps) sp(-beta m) + eps sp(beta m)              eps > 0: conservative DPO
        robust     ((1 - eps) sp(-beta m) - eps sp(beta m)) / (1 - 2 eps)
        exo_pair   KL( [s(beta m), s(-beta m)] || [1 - eps, eps] )
        hinge      max(0, 1 - beta m)
        ipo        (m - 1 / (2 beta))**2
        sppo_hard  (a - 1 / (2 beta))**2 + (b + 1 / (2 beta))**2
        nca_pair   sp(-beta a) + sp(beta a) / 2 + sp(beta b) / 2
        apo_zero   s(-beta a) + s(beta b)
        apo_down   s(beta a) + s(-beta m)

    Parameters
    ----------
    chosen_logps, rejected_logps : array_like or torch.Tensor, one shape, usually (B,)
        The policy's log-probabilities of the preferred and the other answer (nats), from
        :func:`sequence_logprobs`.  All four inputs are *sums* over the response's tokens: the derivation of
        DPO needs log pi(y | x).  "ipo" is the exception, see the notes.
    ref_chosen_logps, ref_rejected_logps : array_like or torch.Tensor, the same shape
        The reference model's.  They take part in autograd if they require grad: detach them, or compute them
        under ``torch.no_grad()``.  Zeros drop the reference.
    beta : float > 0
        The scale of the reward (per nat).  In "ipo" it is the paper's tau, and sets the target margin.
    label_smoothing : float
        The share of pairs that are labelled the wrong way round.  "sigmoid": in [0, 1]; "robust": in [0, 1/2);
        "exo_pair": in (0, 1), where the paper uses 1e-3.  Elsewhere it must be 0.
    loss_type : str
        One of the above.
    reduction : {"mean", "sum", "none"}
        Over pairs.

    Returns
    -------
    scalar, or array or torch.Tensor of the inputs' shape ("none")
        Nats ("hinge", "apo_*": no unit; "ipo", "sppo_hard": nats squared).  float64 if an input is float64
        (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Shapes that differ (nothing is broadcast: (B,) against (B, 1) would make B * B pairs), beta <= 0, a
        smoothing outside its range or given to a loss without one, an unknown `loss_type` or `reduction`,
        devices that differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays; options that are not numbers.

    Notes
    -----
    At the start, where policy and reference agree, "sigmoid" is exactly log 2 for every pair.

    *The length in IPO.*  The paper's loss is quadratic in the log-ratio of whole answers.  With sums the
    margin grows with length while its target 1 / (2 beta) does not, so long pairs dominate; TRL, after asking
    the authors, divides each log-ratio by the number of tokens.  This function computes what it is given:
    pass ``sequence_logprobs(..., average=True)`` in all four places for TRL's form, sums for the paper's, and
    choose beta accordingly (the target is nats per token in the first case, nats in the second).

    Limits.  Answers that the policy rules out are legal; each loss takes its limit.  chosen = -inf: infinite
    ("sigmoid" with gradient -beta), but -log(eps) for "exo_pair", 1 + s(beta b) for "apo_zero" and 1 for
    "apo_down".  rejected = -inf: 0 for "sigmoid" and "hinge"; with smoothing inf for "sigmoid" and -inf for
    "robust"; -log(1 - eps) for "exo_pair"; inf for "ipo" and "sppo_hard"; the part in a alone for the rest.
    Where "ipo" or "sppo_hard" is infinite, so is its gradient.  An infinity minus itself (policy and
    reference, or both answers) is NaN, as is a NaN input.  Mean over no pairs is NaN, the sum 0.  "robust" is
    not bounded below, by construction.

    Accuracy: each loss is at most 4 ULP from the exact value for the numbers given, in float32 and float64,
    also where the four inputs cancel.  beta is taken as the float64 it is; the target of "ipo" and
    "sppo_hard" is the float64 number ``0.5 / beta``, so that a margin of 5.0 at beta 0.1 costs 0.  "robust"
    changes sign: there it is 4 ULP of the larger of its two parts.  The plain formulas lose digits in three
    ways: float32 differences of sums near -1e3 are rounded to 1e-4; 1 - sigmoid(x) is 0 from x = 17 on;
    "exo_pair" cancels near its minimum and is NaN at a margin of -inf.

    Gradients (torch) hold the same bound at all margins, except where the gradient is a difference that
    vanishes at a finite margin ("sigmoid" with smoothing, "nca_pair" and "apo_down" in the chosen answer): there
    the error is 4 ULP of the larger part.  float64 gradients below 1e-300 lose digits.  Double backward works.

    Differences from TRL 1.16, on purpose: "sigmoid" takes a smoothing (there it is ignored); smoothing is refused
    where it would be ignored; "ipo" does not look at lengths; "bco_pair", "aot" and "discopop" are not here.

    Examples
    --------
    >>> f"{dpo_loss([-10.0], [-12.0], [-10.0], [-12.0]):.6f}"  # the policy is the reference: log 2
    '0.693147'
    >>> print(dpo_loss([-10.0], [-15.0], [0.0], [0.0], loss_type="ipo"))  # a margin of 1 / (2 * 0.1)
    0.0
    >>> f"{dpo_loss([0.0], [-400.0], [0.0], [0.0]):.9e}"  # log1p(exp(-40))
    '4.248354255e-18'

    References
    ----------
    "sigmoid": Rafailov et al. (2023), arXiv:2305.18290, eq. 7; with smoothing Mitchell (2023), "A note on DPO
    with noisy preferences and relationship to IPO".  "robust": Chowdhury et al. (2024), arXiv:2403.00409.
    "exo_pair": Ji et al. (2024), arXiv:2402.00856, eq. 16.  "hinge": Zhao et al. (2023), arXiv:2305.10425,
    with the log-ratio as in Liu et al. (2023), arXiv:2309.06657.  "ipo": Azar et al. (2024),
    arXiv:2310.12036, eq. 17.  "sppo_hard": Wu et al. (2024), arXiv:2405.00675, eq. 4.7, with win
    probabilities 1 and 0.  "nca_pair": Chen et al. (2024), arXiv:2402.05369.  "apo_zero", "apo_down":
    D'Oosterlinck et al. (2024), arXiv:2408.06266.

    See Also
    --------
    kto_loss : answers that are good or bad, not paired.
    orpo_loss, simpo_loss : without a reference model.
    bradley_terry_loss : for a reward model's scores.
    """
    _checks.choice("loss_type", loss_type, LOSS_TYPES)
    _checks.choice("reduction", reduction, REDUCTIONS)
    beta = _positive("beta", beta)
    eps = _smoothing(label_smoothing, loss_type)
    names = {
        "chosen_logps": chosen_logps,
        "rejected_logps": rejected_logps,
        "ref_chosen_logps": ref_chosen_logps,
        "ref_rejected_logps": ref_rejected_logps,
    }
    terms, finish = _inputs(**names)
    _same_shapes(**dict(zip(names, terms, strict=True)))
    return finish(_DPO[loss_type](*terms, beta, eps), reduction)


def _smoothing(value, loss_type: str) -> float:
    eps = _checks.real("label_smoothing", value, 0.0, 1.0)
    if loss_type == "robust" and eps >= 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5) for loss_type='robust', got {value!r}")
    if loss_type == "exo_pair" and not 0 < eps < 1:
        raise ValueError(
            f"label_smoothing must be in (0, 1) for loss_type='exo_pair', got {value!r}: the paper uses 1e-3"
        )
    if loss_type not in ("sigmoid", "robust", "exo_pair") and eps:
        raise ValueError(f"label_smoothing must be 0 for loss_type={loss_type!r}, got {value!r}")
    return eps


def _reward_margin(c, r, rc, rr, beta):
    return scaled(*exact_sum(c, r, rc, rr, signs=(1, -1, -1, 1)), beta)


def _reward(policy, reference, beta):
    return scaled(*exact_sum(policy, reference, signs=(1, -1)), beta)


def _smoothed(x, eps: float):
    """Return (1 - eps) softplus(-x) + eps softplus(x), where no infinity meets a factor of zero."""
    if eps == 0:
        return softplus(negative(x))
    if eps == 1:
        return softplus(x)
    return (1 - eps) * softplus(negative(x)) + eps * softplus(x)


def _sigmoid_loss(c, r, rc, rr, beta, eps):
    return _smoothed(_reward_margin(c, r, rc, rr, beta), eps)


def _robust_loss(c, r, rc, rr, beta, eps):
    x = _reward_margin(c, r, rc, rr, beta)
    if eps == 0:
        return softplus(negative(x))
    # softplus(x) = x + softplus(-x): the two softplus terms need not cancel
    tilt = eps / (1 - 2 * eps)
    return (softplus(negative(x)) - tilt * x[0]) - tilt * x[1]


def _exo_loss(c, r, rc, rr, beta, eps):
    return BernoulliKL.apply(*_reward_margin(c, r, rc, rr, beta), eps)


def _hinge_loss(c, r, rc, rr, beta, eps):
    hi, lo = negative(_reward_margin(c, r, rc, rr, beta))
    missing, error = shifted(hi, lo, 1.0)
    return torch.relu(missing + error)


def _ipo_loss(c, r, rc, rr, beta, eps):
    target = torch.full_like(c.detach(), 0.5 / beta)
    hi, lo = exact_sum(c, r, rc, rr, target, signs=(1, -1, -1, 1, -1))
    return (hi + lo).square()


def _sppo_loss(c, r, rc, rr, beta, eps):
    target = torch.full_like(c.detach(), 0.5 / beta)
    won = sum(exact_sum(c, rc, target, signs=(1, -1, -1)))
    lost = sum(exact_sum(r, rr, target, signs=(1, -1, 1)))
    return won.square() + lost.square()


def _nca_loss(c, r, rc, rr, beta, eps):
    won, lost = _reward(c, rc, beta), _reward(r, rr, beta)
    return softplus(negative(won)) + 0.5 * (softplus(won) + softplus(lost))


def _apo_zero_loss(c, r, rc, rr, beta, eps):
    return sigmoid(negative(_reward(c, rc, beta))) + sigmoid(_reward(r, rr, beta))


def _apo_down_loss(c, r, rc, rr, beta, eps):
    return sigmoid(_reward(c, rc, beta)) + sigmoid(negative(_reward_margin(c, r, rc, rr, beta)))


_DPO = {
    "sigmoid": _sigmoid_loss,
    "robust": _robust_loss,
    "exo_pair": _exo_loss,
    "hinge": _hinge_loss,
    "ipo": _ipo_loss,
    "sppo_hard": _sppo_loss,
    "nca_pair": _nca_loss,
    "apo_zero": _apo_zero_loss,
    "apo_down": _apo_down_loss,
}


def kto_loss(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    *,
    beta: float = 0.1,
    kl=0.0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    reduction: str = "mean",
):
    """Return the KTO loss: answers that were liked or disliked, each by itself.

    Use it when there are thumbs up and down but no pairs.  The two groups may differ in size, and one may be
    empty.

    With a = chosen_logps - ref_chosen_logps (N,), b = rejected_logps - ref_rejected_logps (M,) and
    z = max(kl, 0)::

        desirable:    desirable_weight   * (1 - sigmoid(beta (a - z)))
        undesirable:  undesirable_weight * (1 - sigmoid(beta (z - b)))

    Parameters
    ----------
    chosen_logps, ref_chosen_logps : array_like or torch.Tensor, shape (N,)
        Policy's and reference's log-probabilities of desirable answers: sums over the response (nats).
    rejected_logps, ref_rejected_logps : array_like or torch.Tensor, shape (M,)
        The same for undesirable answers.
    beta : float > 0
        The scale of the reward (per nat).
    kl : float or torch.Tensor with one element
        The reference point: an estimate of KL(policy || reference), as the mean log-ratio of mismatched
        prompts and answers (nats).  Below 0 it counts as 0.  No gradient flows to it.
    desirable_weight, undesirable_weight : float >= 0
        The paper's lambda_D and lambda_U, for groups of different sizes.
    reduction : {"mean", "sum", "none"}
        Over all N + M answers; a weight scales a loss, it is not part of the mean's denominator.

    Returns
    -------
    scalar, or array or torch.Tensor of shape (N + M,) ("none": desirable first)
        No unit, in [0, weight].  float64 if an input is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Inputs that are not one-dimensional, shapes that differ within a group, beta <= 0, a negative weight,
        a `kl` that is not finite (a number) or has several elements, an unknown reduction, devices that
        differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays; options that are not numbers.

    Notes
    -----
    Limits.  A log-ratio of -inf or inf gives 0 or the whole weight; an infinity minus itself, and NaN, give
    NaN.  Mean over no answers is NaN, the sum 0.

    Accuracy: at most 4 ULP of the exact value for the numbers given, in float32 and float64; so is the
    gradient, which is beta * weight * sigmoid(x) sigmoid(-x).  ``1 - sigmoid(x)`` is 0 from x = 17 on in
    float32, and its gradient with it in bfloat16.  Double backward works.

    Examples
    --------
    >>> print(kto_loss([-10.0], [-12.0], [-10.0], [-12.0]))  # the policy is the reference
    0.5
    >>> f"{kto_loss([0.0], [], [-400.0], []):.9e}"  # 1 / (1 + exp(40))
    '4.248354255e-18'

    References
    ----------
    Ethayarajh et al. (2024), arXiv:2402.01306, eq. 7.

    See Also
    --------
    dpo_loss : for pairs.  Its "apo_zero" is this with z = 0 and pairs.
    """
    _checks.choice("reduction", reduction, REDUCTIONS)
    beta = _positive("beta", beta)
    w_good = _checks.real("desirable_weight", desirable_weight, 0.0)
    w_bad = _checks.real("undesirable_weight", undesirable_weight, 0.0)
    (c, r, rc, rr), finish = _inputs(
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
    )
    for name, x in (("chosen_logps", c), ("rejected_logps", r)):
        if x.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {tuple(x.shape)}")
    _same_shapes(chosen_logps=c, ref_chosen_logps=rc)
    _same_shapes(rejected_logps=r, ref_rejected_logps=rr)
    z = _reference_point(kl, c)
    good = scaled(*exact_sum(c, rc, z.expand_as(c), signs=(1, -1, -1)), -beta)
    bad = scaled(*exact_sum(r, rr, z.expand_as(r), signs=(1, -1, -1)), beta)
    return finish(torch.cat([w_good * sigmoid(good), w_bad * sigmoid(bad)]), reduction)


def _reference_point(kl, like):
    """Return max(kl, 0) as a detached tensor of shape () in the dtype of ``like``."""
    if _checks.is_torch(kl):
        if kl.numel() != 1:
            raise ValueError(f"kl must have one element, got shape {tuple(kl.shape)}")
        kl = _checks.as_float("kl", kl).detach().reshape(())
        if kl.device != like.device:
            raise ValueError(f"kl is on {kl.device} but chosen_logps is on {like.device}: use one device")
        return kl.to(like.dtype).clamp(min=0)
    return torch.full((), max(_checks.real("kl", kl), 0.0), dtype=like.dtype, device=like.device)


def orpo_loss(
    chosen_logps,
    rejected_logps,
    *,
    beta: float = 0.1,
    nll=None,
    reduction: str = "mean",
    validate: bool | None = None,
):
    """Return the ORPO loss: imitation of the chosen answer, plus the log of an odds ratio.

    Use it to fine-tune and align in one stage, without a reference model.

    With odds(l) = exp(l) / (1 - exp(l))::

        loss = nll + beta * log(1 + odds(rejected_logps) / odds(chosen_logps))

    which is nll - beta * log(sigmoid(log odds(chosen) - log odds(rejected))).

    Parameters
    ----------
    chosen_logps, rejected_logps : array_like or torch.Tensor, one shape, usually (B,)
        *Average* log-probabilities per token (nats), <= 0: ``sequence_logprobs(..., average=True)``.  With
        sums, 1 - exp(l) would be 1 for every answer of some length, and the odds just probabilities.
    beta : float > 0
        The weight of the odds-ratio term, the paper's lambda.
    nll : array_like or torch.Tensor, a number or of the inputs' shape, optional
        The imitation term (nats per token).  By default it is -chosen_logps, the paper's; TRL uses the mean
        over all tokens of the chosen texts in the batch, prompts included.  0.0 leaves the odds-ratio term alone.
    reduction : {"mean", "sum", "none"}
        Over pairs.
    validate : bool, optional
        Whether to check that the log-probabilities are <= 0.  None checks on the CPU only, as a check on an
        accelerator waits for it.

    Returns
    -------
    scalar, or array or torch.Tensor of the inputs' shape ("none")
        Nats.  float64 if an input is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Log-probabilities above 0, shapes that differ, beta <= 0, an unknown reduction, devices that differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays; options that are not numbers.

    Notes
    -----
    Limits.  Chosen 0 (certainty) gives an odds term of 0, chosen -inf one of inf; rejected 0 one of inf,
    rejected -inf one of 0.  Both 0, or both -inf, and NaN give NaN, as do values above 0 that were not
    checked.  At rejected 0 the gradient in it is infinite.
    Mean over no pairs is NaN, the sum 0.

    Accuracy: at most 4 ULP of the exact value for the numbers given, in float32 and float64; the gradient of
    the odds term at most 4 ULP in float32 and 5 in float64.  The usual ``log1p(-exp(l))`` is -inf at l = -1e-8
    in float32, and the log-odds with it; a difference of two accurate log-odds would still lose a factor of
    its size.  Here the odds ratio is exp(r - c) expm1(c) / expm1(r), in which nothing cancels, and whose
    gradient has a limit at c = 0.  Double backward works.

    Examples
    --------
    >>> f"{orpo_loss([-0.5], [-0.5], beta=1.0):.6f}"  # 0.5 + log 2
    '1.193147'
    >>> f"{orpo_loss([-1e-8], [-1.0], beta=1.0, nll=0.0):.4e}"  # log1p(1e-8 * 0.582)
    '5.8198e-09'

    References
    ----------
    Hong, Lee & Thorne (2024), arXiv:2403.07691, eq. 4 to 7.

    See Also
    --------
    simpo_loss : the other one without a reference model.
    lossutils.logspace.log1mexp : log(1 - exp(l)) by itself.
    """
    _checks.choice("reduction", reduction, REDUCTIONS)
    beta = _positive("beta", beta)
    names = {"chosen_logps": chosen_logps, "rejected_logps": rejected_logps}
    extra = _operand("nll", nll, chosen_logps)
    (c, r, *given), finish = _inputs(**names, **extra)
    _same_shapes(chosen_logps=c, rejected_logps=r)
    for name, x in (("chosen_logps", c), ("rejected_logps", r)):
        if _checks.may_read(x, validate) and (x > 0).any():
            raise ValueError(f"{name} must be at most 0, got {x[x > 0].reshape(-1)[0].item()!r}")
    term = _expanded("nll", given[0], c) if given else -c
    return finish(term + beta * OddsLoss.apply(c, r), reduction)


def _operand(name: str, value, like) -> dict:
    """Return {name: value} for :func:`_inputs`; a plain number becomes a tensor if ``like`` is one."""
    if value is None:
        return {}
    if _checks.is_torch(like) and not _checks.is_torch(value) and np.ndim(value) == 0:
        # of like's dtype if that holds it as well as float32 does: a number does not make a result float64
        dtype = like.dtype if like.dtype in (torch.float64, torch.float32) else torch.float32
        return {name: torch.tensor(_checks.real(name, value), dtype=dtype, device=like.device)}
    if np.ndim(value) == 0 and not _checks.is_torch(value):
        dtype = getattr(like, "dtype", np.dtype(np.float64))
        narrow = dtype in (np.dtype(np.float32), np.dtype(np.float16))
        return {name: np.asarray(_checks.real(name, value), np.float32 if narrow else np.float64)}
    return {name: value}


def _expanded(name: str, value, like):
    if value.ndim and value.shape != like.shape:
        raise ValueError(
            f"{name} must be a number or have shape {tuple(like.shape)}, got shape {tuple(value.shape)}"
        )
    return value.expand_as(like)


def simpo_loss(
    chosen_logps,
    rejected_logps,
    *,
    beta: float = 2.0,
    gamma: float = 0.5,
    reduction: str = "mean",
):
    """Return the SimPO loss: DPO with the average log-probability as reward, and a margin to win by.

    Use it without a reference model, where generation is judged by the average log-probability too.

    ::

        loss = -log(sigmoid(beta (chosen_logps - rejected_logps) - gamma))

    Parameters
    ----------
    chosen_logps, rejected_logps : array_like or torch.Tensor, one shape, usually (B,)
        *Average* log-probabilities per token (nats): ``sequence_logprobs(..., average=True)``.
    beta : float > 0
        The scale of the reward; 2 to 2.5 in the paper, as averages are small.
    gamma : float
        The margin, in units of the reward (TRL's simpo_gamma; the paper's code gives gamma / beta).
    reduction : {"mean", "sum", "none"}
        Over pairs.

    Returns
    -------
    scalar, or array or torch.Tensor of the inputs' shape ("none")
        Nats.  float64 if an input is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Shapes that differ, beta <= 0, a gamma that is not finite, an unknown reduction, devices that differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays; options that are not numbers.

    Notes
    -----
    Limits.  Chosen -inf gives inf (gradient -beta), rejected -inf 0; both -inf, and NaN, give NaN.  Mean over
    no pairs is NaN, the sum 0.

    Accuracy: at most 4 ULP of the exact value for the numbers given, loss and gradient, in float32 and
    float64 (float64 gradients below 1e-300 lose digits).  Double backward works.

    Examples
    --------
    >>> f"{simpo_loss([-1.0], [-1.25]):.6f}"  # ahead by exactly the margin: log 2
    '0.693147'

    References
    ----------
    Meng, Xia & Chen (2024), arXiv:2405.14734, eq. 6.

    See Also
    --------
    dpo_loss : with a reference model.
    """
    _checks.choice("reduction", reduction, REDUCTIONS)
    beta, gamma = _positive("beta", beta), _checks.real("gamma", gamma)
    (c, r), finish = _inputs(chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    _same_shapes(chosen_logps=c, rejected_logps=r)
    x = shifted(*scaled(*exact_sum(c, r, signs=(1, -1)), beta), -gamma)
    return finish(softplus(negative(x)), reduction)


def bradley_terry_loss(chosen, rejected, *, margin=None, reduction: str = "mean"):
    """Return the loss of a reward model under Bradley and Terry's model of choices.

    Use it to train a reward model: `chosen` and `rejected` are its scores for the two answers of a pair.

    ::

        loss = -log P(chosen beats rejected) = -log(sigmoid(chosen - rejected - margin))

    Parameters
    ----------
    chosen, rejected : array_like or torch.Tensor, one shape, usually (B,)
        Scores (nats: a difference of 1 is odds of e).
    margin : array_like or torch.Tensor, a number or of the scores' shape, optional
        How far apart the scores should be at least; Llama 2 sets it by how strong the preference was.
    reduction : {"mean", "sum", "none"}
        Over pairs.

    Returns
    -------
    scalar, or array or torch.Tensor of the scores' shape ("none")
        Nats.  float64 if an input is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Shapes that differ, a margin of another shape, an unknown reduction, devices that differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays.

    Notes
    -----
    Limits.  chosen - rejected = -inf gives inf (gradient -1), inf gives 0; an infinity minus itself, and NaN,
    give NaN.  Mean over no pairs is NaN, the sum 0.

    Accuracy: at most 4 ULP of the exact value for the numbers given, loss and gradient, in float32 and
    float64.  ``-log(sigmoid(x))`` is 0 from x = 17 on in float32 and inf below -89.  Double backward works.

    Examples
    --------
    >>> f"{bradley_terry_loss([1.5], [1.5]):.6f}"  # log 2
    '0.693147'
    >>> f"{bradley_terry_loss([40.0], [0.0]):.9e}"
    '4.248354255e-18'

    References
    ----------
    Bradley & Terry (1952), "Rank analysis of incomplete block designs".  Ouyang et al. (2022),
    arXiv:2203.02155, eq. 1; with a margin Touvron et al. (2023), arXiv:2307.09288, eq. 2.

    See Also
    --------
    dpo_loss : the same with log-ratios as scores.
    lossutils.logspace.log_expit : the log-probability itself.
    """
    _checks.choice("reduction", reduction, REDUCTIONS)
    extra = _operand("margin", margin, chosen)
    (c, r, *given), finish = _inputs(chosen=chosen, rejected=rejected, **extra)
    _same_shapes(chosen=c, rejected=r)
    if given:
        x = exact_sum(c, r, _expanded("margin", given[0], c), signs=(1, -1, -1))
    else:
        x = exact_sum(c, r, signs=(1, -1))
    return finish(softplus(negative(x)), reduction)


def kl_estimate(logp, logq, kind: str = "k3", *, reduction: str = "none"):
    """Return an estimate of KL(p || q) from what p and q say about samples of p.

    Use it for the KL penalty of a policy p against a reference q, where the sum over all answers is out of
    reach.  Average it over samples of p, with ``reduction="mean"`` or by your own mask.

    With d = logq - logp at a sample x ~ p::

        k1 = -d                  unbiased, either sign, large variance
        k2 = d**2 / 2            biased, >= 0, small variance
        k3 = exp(d) - 1 - d      unbiased, >= 0, small variance where p and q are close

    Parameters
    ----------
    logp, logq : array_like or torch.Tensor, one shape
        Log-probabilities (nats) of the same samples, drawn from p.
    kind : {"k1", "k2", "k3"}
        Which estimator.
    reduction : {"none", "sum", "mean"}
        "none" gives one number a sample.

    Returns
    -------
    array or torch.Tensor of the inputs' shape ("none"), or a scalar
        Nats.  float64 if an input is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Shapes that differ, an unknown kind or reduction, devices that differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays.

    Notes
    -----
    The estimates are unbiased; their gradients need not be.  Differentiating k1 through logp gives a gradient
    whose expectation is zero, and k3's is that of the reverse divergence: what a policy gradient needs is the
    estimate inside the reward, or k2 as a loss.

    Limits.  logq = -inf (q rules out what p did) gives inf for all kinds.  logp = -inf with a finite logq
    can't be a sample of p; it gives -inf, inf, inf.  Both -inf, and NaN, give NaN.  k3 overflows to inf for d
    above 88.7 (float32) and 709 (float64).  Mean over no samples is NaN, the sum 0.

    Accuracy: at most 4 ULP of the exact value for the numbers given, in float32 and float64, and the same for
    the gradients in logp and logq.  ``exp(d) - d - 1`` is 0 for ``|d|`` <= 3e-4 in float32, and ``expm1(d) - d``
    loses half the digits at 1e-4: here d is exact and a series is used for ``|d|`` <= 2.

    Examples
    --------
    >>> logp, logq = np.log([0.5, 0.5]), np.log([0.9, 0.1])
    >>> float(kl_estimate(logp, logq, kind="k3", reduction="mean").round(4))
    0.5108
    >>> f"{kl_estimate(0.0, 1e-6):.6e}"  # d**2 / 2 to first order
    '5.000002e-13'

    References
    ----------
    Schulman (2020), "Approximating KL divergence", which writes x ~ q, r = p(x) / q(x).

    See Also
    --------
    lossutils.information.kl_divergence : the exact sum, where all outcomes can be listed.
    """
    _checks.choice("kind", kind, KINDS)
    _checks.choice("reduction", reduction, REDUCTIONS)
    (p, q), finish = _inputs(logp=logp, logq=logq)
    _same_shapes(logp=p, logq=q)
    hi, lo = exact_sum(q, p, signs=(1, -1))
    if kind == "k1":
        estimate = -(hi + lo)
    elif kind == "k2":
        estimate = 0.5 * (hi + lo).square()
    else:
        estimate = ExcessExp.apply(hi, lo)
    return finish(estimate, reduction)
