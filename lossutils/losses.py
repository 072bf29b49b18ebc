"""Training losses beside cross-entropy, from logits: what each of them asks the model for.

A loss is *proper* if its mean is smallest when the model reports the true probabilities, and *strictly* proper if it is
smallest only there.  With the truth p over the classes, the mean of each loss is smallest at:

=================================  ===========================================  ========
loss                               its minimiser                                proper
=================================  ===========================================  ========
cross-entropy                      p                                            strictly
:func:`brier_loss`                 p                                            strictly
:func:`spherical_loss`             p                                            strictly
:func:`focal_loss`, gamma > 0      flatter than p                               no
:func:`mae_loss`                   all on the likeliest class                   no
:func:`hinge_loss`                 a margin, where one class has more than 1/2  no
:func:`pinball_loss` (regression)  the quantile
=================================  ===========================================  ========

Layout, options and limits are those of :func:`lossutils.cross_entropy.cross_entropy`.  Working precision is float64
(on devices without it float32); NumPy arrays go through torch on the CPU and come back as arrays.  With
e_j = exp(z_j - max z), S the sum of e_j over all j but the target y, and r = S / (S + e_y) for 1 - p_y, losses and
gradients are written as sums of terms of one sign wherever they are: nothing is ever subtracted from one.
"""

from __future__ import annotations

import torch

from lossutils import _checks
from lossutils._compensated import exact_sum
from lossutils.cross_entropy import REDUCTIONS, cross_entropy
from lossutils.cross_entropy import _checked as _checked_as_cross_entropy
from lossutils.logspace import relative_exp, result_dtype, working_dtype

__all__ = ["brier_loss", "focal_loss", "hinge_loss", "mae_loss", "pinball_loss", "spherical_loss"]

KINDS = ("crammer-singer", "weston-watkins")


def brier_loss(
    logits, target, *, ignore_index: int = -100, reduction: str = "mean", validate: bool | None = None
):
    """Return the Brier loss of logits: the squared distance between the softmax and what happened.

    Use it as a strictly proper loss that stays bounded, so that single mislabelled examples cannot dominate.  The price
    is its gradient, which vanishes for a confident error.

    Per row, with p = softmax(logits) and the target y::

        loss       = sum_c (p_c - [c = y])**2                                    in [0, 2]
        d loss/d z_y = -2 p_y loss
        d loss/d z_j = 2 p_j (p_j + p_y (1 - p_y) - sum_{i != y} p_i**2)

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalised log-probabilities (nats).  -inf masks a class.
    target : integer array_like or torch.Tensor, shape (), (N,) or (N, d1, ...)
        Classes in [0, C), or `ignore_index`.
    ignore_index : int
        Rows with this target cost nothing, get a gradient of zero and are not counted.
    reduction : {"mean", "sum", "none"}
        Over the rows that count.
    validate : bool, optional
        Whether to check the values of `target`.  None checks on the CPU only, as a check on an accelerator waits.

    Returns
    -------
    scalar, or array or torch.Tensor of the target's shape ("none")
        No unit.  float64 for float64 and NumPy integer logits, else float32.

    Raises
    ------
    ValueError
        Shapes that do not fit, a target outside [0, C), an unknown reduction, devices that differ.
    TypeError
        Integer, boolean or complex logits tensors, targets that are not integers, tensors mixed with arrays.

    Notes
    -----
    Limits.  Mean over nothing is NaN with a gradient of zero; the sum is 0.  A target whose logit is -inf costs
    1 + sum p**2, gradient 0.  A row of -inf only, or with +inf or NaN in it, costs NaN, unless it is ignored.

    Accuracy against exact values: at most 1 ULP in float32 and 8 ULP in float64, for the loss and its gradient at the
    target, at any offset and gap.  ``((softmax(z) - onehot)**2).sum()`` is half of that in float32 from a gap of 17
    on, where 1 - p_y comes out as 0.  The gradient at another class is within 8 ULP of 2 p_j: it may be a difference
    of such numbers.
    torch: differentiable twice.

    Examples
    --------
    >>> print(brier_loss([0.0, 0.0], 0))
    0.5
    >>> f"{brier_loss([40.0, 0.0], 0):.6e}"  # 2 exp(-80), not 0
    '3.609703e-35'

    A confident error has next to no gradient:

    >>> z = torch.tensor([0.0, 10.0], requires_grad=True)
    >>> brier_loss(z, torch.tensor(0)).backward()
    >>> f"{z.grad[0].item():.1e}"
    '-1.8e-04'

    References
    ----------
    Brier (1950), "Verification of forecasts expressed in terms of probability".

    See Also
    --------
    lossutils.calibration.brier_score : the same of probabilities.
    """
    return _loss_of_rows(_Brier, logits, target, ignore_index, reduction, validate)


def spherical_loss(
    logits, target, *, ignore_index: int = -100, reduction: str = "mean", validate: bool | None = None
):
    """Return the spherical loss of logits: one minus the cosine between the softmax and what happened.

    Use it as a second bounded, strictly proper loss, to see what depends on the choice of one.

    Per row, with p = softmax(logits), its length n = sqrt(sum_c p_c**2) and the target y::

        loss       = 1 - p_y / n                                                 in [0, 1]
        d loss/d z_y = -(p_y / n) sum_{i != y} p_i**2 / n**2
        d loss/d z_j =  (p_y / n) p_j**2 / n**2

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalised log-probabilities (nats).  -inf masks a class.
    target : integer array_like or torch.Tensor, shape (), (N,) or (N, d1, ...)
        Classes in [0, C), or `ignore_index`.
    ignore_index : int
        Rows with this target cost nothing, get a gradient of zero and are not counted.
    reduction : {"mean", "sum", "none"}
        Over the rows that count.
    validate : bool, optional
        Whether to check the values of `target`.  None checks on the CPU only, as a check on an accelerator waits.

    Returns
    -------
    scalar, or array or torch.Tensor of the target's shape ("none")
        No unit.  float64 for float64 and NumPy integer logits, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`brier_loss`.

    Notes
    -----
    This is :func:`lossutils.calibration.spherical_score` plus one, so that 0 is the best and small losses keep their
    digits.  Limits as :func:`brier_loss`; a target whose logit is -inf costs 1.

    Accuracy against exact values: at most 1 ULP in float32 and 6 ULP in float64, for the loss and its gradient, at any
    offset and gap.  torch: differentiable twice.

    Examples
    --------
    >>> f"{spherical_loss([0.0, 0.0], 0):.4f}"  # 1 - 1/sqrt(2)
    '0.2929'
    >>> f"{spherical_loss([40.0, 0.0], 0):.6e}"  # exp(-80) / 2
    '9.024257e-36'

    References
    ----------
    Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation".

    See Also
    --------
    lossutils.calibration.spherical_score : the same of probabilities, between -1 and 0.
    """
    return _loss_of_rows(_Spherical, logits, target, ignore_index, reduction, validate)


def mae_loss(
    logits, target, *, ignore_index: int = -100, reduction: str = "mean", validate: bool | None = None
):
    """Return the absolute error of the softmax against what happened.

    Use it to see what an improper loss does, or where many labels are known to be wrong and only the decision matters.
    Do not use it where the probabilities are needed: its minimiser puts everything on the likeliest class.

    Per row, with p = softmax(logits) and the target y::

        loss       = sum_c |p_c - [c = y]| = 2 (1 - p_y)                         in [0, 2]
        d loss/d z_y = -2 p_y (1 - p_y)
        d loss/d z_j =  2 p_y p_j

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalised log-probabilities (nats).  -inf masks a class.
    target : integer array_like or torch.Tensor, shape (), (N,) or (N, d1, ...)
        Classes in [0, C), or `ignore_index`.
    ignore_index : int
        Rows with this target cost nothing, get a gradient of zero and are not counted.
    reduction : {"mean", "sum", "none"}
        Over the rows that count.
    validate : bool, optional
        Whether to check the values of `target`.  None checks on the CPU only, as a check on an accelerator waits.

    Returns
    -------
    scalar, or array or torch.Tensor of the target's shape ("none")
        No unit.  float64 for float64 and NumPy integer logits, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`brier_loss`.

    Notes
    -----
    The mean over a truth t is 2 (1 - sum_c t_c p_c): linear in p, so that its minimum is at a corner.  Limits as
    :func:`brier_loss`; a target whose logit is -inf costs 2, gradient 0.

    Accuracy against exact values: at most 1 ULP in float32 and 6 ULP in float64, for the loss and its gradient, at any
    offset and gap.  torch: differentiable twice.

    Examples
    --------
    >>> print(mae_loss([0.0, 0.0], 0))
    1.0
    >>> f"{mae_loss([40.0, 0.0], 0):.6e}"  # 2 exp(-40)
    '8.496709e-18'

    References
    ----------
    Ghosh, Kumar & Sastry (2017), "Robust loss functions under label noise for deep neural networks",
    arXiv:1712.09482.

    See Also
    --------
    brier_loss : squared instead of absolute, and proper.
    """
    return _loss_of_rows(_AbsoluteError, logits, target, ignore_index, reduction, validate)


def focal_loss(
    logits,
    target,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    validate: bool | None = None,
):
    """Return the focal loss: cross-entropy in which examples that are predicted well count less.

    Use it where easy examples swamp the hard ones and a ranking or a decision is what is wanted.  Its probabilities are
    flatter than the truth; :func:`lossutils.recalibration.restore_focal` puts them right.

    Per row, with p = softmax(logits), r = 1 - p_y, L = -log(p_y) and F = r**(gamma - 1) (r + gamma p_y L)::

        loss       = r**gamma L
        d loss/d z_y = -r F
        d loss/d z_j = p_j F

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalised log-probabilities (nats).  -inf masks a class.
    target : integer array_like or torch.Tensor, shape (), (N,) or (N, d1, ...)
        Classes in [0, C), or `ignore_index`.
    gamma : float >= 0
        How strongly good predictions are discounted; 0 is cross-entropy, 2 the paper's choice.
    ignore_index : int
        Rows with this target cost nothing, get a gradient of zero and are not counted.
    reduction : {"mean", "sum", "none"}
        Over the rows that count.
    validate : bool, optional
        Whether to check the values of `target`.  None checks on the CPU only, as a check on an accelerator waits.

    Returns
    -------
    scalar, or array or torch.Tensor of the target's shape ("none")
        Nats, discounted: no negative log-likelihood for gamma > 0.  float64 for float64 and NumPy integer logits, else
        float32.

    Raises
    ------
    ValueError
        As :func:`brier_loss`, or a negative or infinite gamma.
    TypeError
        As :func:`brier_loss`.

    Notes
    -----
    The paper's alpha is a weight for each class: multiply the losses of ``reduction="none"`` by it.

    Limits as :func:`brier_loss`; a target whose logit is -inf costs inf (gradient -1 there).

    Accuracy against exact values: at most 1 ULP in float32 and 4 + 3 gamma ULP in float64, for the loss and its
    gradient, at any offset and gap.  ``(1 - exp(-ce))**gamma * ce`` is 0 in float32 from a gap of 17 on.  torch:
    differentiable twice.

    Examples
    --------
    >>> f"{focal_loss([0.0, 0.0], 0):.6f}"  # log(2) / 4
    '0.173287'
    >>> f"{focal_loss([40.0, 0.0], 0):.6e}"  # exp(-40)**3
    '7.667648e-53'

    References
    ----------
    Lin, Goyal, Girshick, He & Dollár (2017), "Focal loss for dense object detection", arXiv:1708.02002.

    See Also
    --------
    lossutils.recalibration.restore_focal : from its minimiser back to the truth.
    """
    gamma = _checks.real("gamma", gamma, 0.0)
    return _loss_of_rows(_Focal, logits, target, ignore_index, reduction, validate, gamma)


def hinge_loss(
    logits,
    target,
    *,
    margin: float = 1.0,
    kind: str = "crammer-singer",
    ignore_index: int = -100,
    reduction: str = "mean",
    validate: bool | None = None,
):
    """Return the multiclass hinge loss: how much the target's score misses a margin above the others.

    Use it where only the decision matters.  The scores it teaches are no log-probabilities.

    Per row with the scores z and the target y::

        crammer-singer:  max(0, margin + max_{j != y} z_j - z_y)
        weston-watkins:  sum_{j != y} max(0, margin + z_j - z_y)

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Scores.  -inf takes a class out of the comparison.
    target : integer array_like or torch.Tensor, shape (), (N,) or (N, d1, ...)
        Classes in [0, C), or `ignore_index`.
    margin : float > 0
        By how much the target should lead, in units of the scores.
    kind : {"crammer-singer", "weston-watkins"}
        Against the strongest other class, or against each.  ``F.multi_margin_loss`` is the second, divided by C.
    ignore_index : int
        Rows with this target cost nothing, get a gradient of zero and are not counted.
    reduction : {"mean", "sum", "none"}
        Over the rows that count.
    validate : bool, optional
        Whether to check the values of `target`.  None checks on the CPU only, as a check on an accelerator waits.

    Returns
    -------
    scalar, or array or torch.Tensor of the target's shape ("none")
        In units of the scores.  float64 for float64 and NumPy integer logits, else float32.

    Raises
    ------
    ValueError
        As :func:`brier_loss`, or a margin that is not positive and finite, or an unknown kind.
    TypeError
        As :func:`brier_loss`.

    Notes
    -----
    With two classes its minimiser leads by the margin on the side of the likelier one, whatever the probability.  With
    more, and none above 1/2, crammer-singer may be smallest where all scores are equal, so that not even the decision
    is learned (Tewari & Bartlett 2007).

    Limits.  Mean over nothing is NaN with a gradient of zero; the sum is 0.  One class alone costs 0.  At the kink the
    gradient is 0.  Of several strongest other classes one gets the gradient.  NaN among the scores gives NaN.

    Accuracy: each difference is exact before it is rounded, at most 1 ULP; weston-watkins adds terms of one sign, at
    most 4 ULP.  torch: differentiable.

    Examples
    --------
    >>> hinge_loss([[2.0, 0.5, 0.0], [0.0, 3.0, 0.5]], [0, 0], reduction="none")
    array([0., 4.])
    >>> hinge_loss([[2.0, 0.5, 0.0], [0.0, 3.0, 0.5]], [0, 0], kind="weston-watkins", reduction="none")
    array([0. , 5.5])

    References
    ----------
    Crammer & Singer (2001), "On the algorithmic implementation of multiclass kernel-based vector machines".  Weston &
    Watkins (1999), "Support vector machines for multi-class pattern recognition".  Tewari & Bartlett (2007), "On the
    consistency of multiclass classification methods".

    See Also
    --------
    lossutils.preference.dpo_loss : ``loss_type="hinge"``, a margin between two answers.
    """
    margin = _checks.real("margin", margin, 0.0)
    if margin == 0:
        raise ValueError("margin must be positive, got 0.0: equal scores would cost nothing")
    _checks.choice("kind", kind, KINDS)

    def row_losses(z, y):
        z, y = z.to(working_dtype(z)), y.unsqueeze(-1)
        rivals = z.scatter(-1, y, -torch.inf)
        if kind == "crammer-singer":
            rivals = rivals.max(-1, keepdim=True).values
        shape = rivals.shape
        # -inf less -inf is no number, and a rival at -inf is none: it is kept out rather than subtracted
        there = rivals != -torch.inf
        rivals = torch.where(there, rivals, 0.0)
        own = torch.where(there, z.gather(-1, y).expand(shape), 0.0)
        lead, _ = exact_sum(rivals, own, torch.full_like(own, margin), signs=(1, -1, 1))
        return torch.where(there, torch.relu(lead), 0.0).sum(-1)

    return _reduced(row_losses, logits, target, ignore_index, reduction, validate)


def pinball_loss(input, target, quantile: float, *, reduction: str = "mean"):
    """Return the pinball (quantile) loss of a prediction: the loss whose minimiser is a quantile.

    Use it for regression where the answer is "exceeded only one time in ten", and in pairs for intervals.

    With d = target - input, per element::

        loss = quantile * d             if d >= 0       the target lay above
               (1 - quantile) * (-d)    if d < 0

    Parameters
    ----------
    input, target : array_like or torch.Tensor, one shape
        The prediction and what came.
    quantile : float in (0, 1)
        The share of targets that should lie below the prediction.  1/2 is half the absolute error: the median.
    reduction : {"mean", "sum", "none"}
        Over elements.

    Returns
    -------
    scalar, or array or torch.Tensor of the inputs' shape ("none")
        In units of the target.  float64 if an input is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Shapes that differ (nothing is broadcast: (N,) against (N, 1) would make N * N pairs), a quantile outside
        (0, 1), an unknown reduction, devices that differ.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays; a quantile that is not a number.

    Notes
    -----
    The gradient in `input` is -quantile where the target lies above and 1 - quantile where it lies below, so it
    balances where a share `quantile` of the targets lies below.  At d = 0 it is -quantile.  Mean over nothing is NaN,
    the sum 0.

    Accuracy: at most 2 ULP.  torch: differentiable in both.

    Examples
    --------
    >>> pinball_loss([0.0, 0.0], [1.0, -1.0], 0.9, reduction="none").round(3)
    array([0.9, 0.1])

    References
    ----------
    Koenker & Bassett (1978), "Regression quantiles".

    See Also
    --------
    mae_loss : absolute error of class probabilities, quite another thing.
    """
    quantile = _checks.real("quantile", quantile)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie strictly between 0 and 1, got {quantile!r}")
    _checks.choice("reduction", reduction, REDUCTIONS)
    input, target = _checks.as_float("input", input), _checks.as_float("target", target)
    _checks.same_kind(input=input, target=target)
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"target must have input's shape {tuple(input.shape)}, got {tuple(target.shape)}: no broadcasting here"
        )
    numpy = not _checks.is_torch(input)
    if numpy:
        input, target = torch.tensor(input), torch.tensor(target)
    dtype = torch.float64 if torch.float64 in (input.dtype, target.dtype) else torch.float32
    work = torch.float64 if dtype == torch.float64 else working_dtype(input)
    d = target.to(work) - input.to(work)
    losses = torch.where(d < 0, (1 - quantile) * -d, quantile * d)
    return _finished(losses, losses.numel(), reduction, dtype, numpy)


# ----------------------------------------------------------------------------------------------------------
# what goes in, and what comes out


def _loss_of_rows(formula, logits, target, ignore_index, reduction, validate, *options):
    def row_losses(z, y):
        return _RowLoss.apply(z, y.unsqueeze(-1), formula, *options)

    return _reduced(row_losses, logits, target, ignore_index, reduction, validate)


def _reduced(row_losses, logits, target, ignore_index, reduction, validate):
    """Check, bring the classes to the last axis, and reduce ``row_losses(z (..., C), y (...))``."""
    logits, target = _checks.as_float("logits", logits), _checks.as_integer("target", target)
    _checks.same_kind(logits=logits, target=target)
    logits, target, _, options = _checked_as_cross_entropy(
        logits, target, None, ignore_index, reduction, 0.0, 0.0, validate
    )
    dtype = result_dtype(logits)
    numpy = not _checks.is_torch(logits)
    if numpy:
        logits, target = torch.tensor(logits), torch.tensor(target)
        dtype = result_dtype(logits)
    z = logits if logits.ndim == 1 else logits.movedim(1, -1)
    counts = target != options.ignore_index
    # whatever an ignored row holds, NaN too, it costs nothing and gets no gradient
    z = z.masked_fill(~counts.unsqueeze(-1), 0.0)
    losses = row_losses(z, torch.where(counts, target, 0)).masked_fill(~counts, 0.0)
    return _finished(losses, counts.sum(), reduction, dtype, numpy)


def _finished(losses, n, reduction, dtype, numpy):
    if reduction == "sum":
        losses = losses.sum()
    elif reduction == "mean":
        losses = losses.sum() / n if losses.numel() else losses.sum() * torch.nan
    losses = losses.to(dtype)
    return losses.numpy()[()] if numpy else losses


# ----------------------------------------------------------------------------------------------------------
# the losses of rows (..., C) with targets (..., 1), in the working dtype


def _relative(z, y):
    """Return (e with 0 at the target, its sum S, e_y, S + e_y), all relative to the largest logit."""
    e = relative_exp(z, z.amax(-1, keepdim=True))
    own = e.gather(-1, y)
    others = e.scatter(-1, y, 0.0)
    rest = others.sum(-1, keepdim=True)
    return others, rest, own, rest + own


class _RowLoss(torch.autograd.Function):
    """A loss of rows from a formula: ``value`` of a row, and ``gradient`` at the other classes and at the target."""

    @staticmethod
    def forward(ctx, z, y, formula, *options):
        ctx.save_for_backward(z, y)
        ctx.formula, ctx.options = formula, options
        return formula.value(z, y, *options).squeeze(-1)

    @staticmethod
    def backward(ctx, upstream):
        z, y = ctx.saved_tensors
        # under create_graph=True this is recorded: the formula is differentiable itself
        others, own = ctx.formula.gradient(z, y, *ctx.options)
        grad = others.scatter(-1, y, own) * upstream.unsqueeze(-1)
        return grad.to(z.dtype), None, None, *(None for _ in ctx.options)


class _Brier:
    @staticmethod
    def value(z, y):
        others, rest, _, total = _relative(z, y)
        return (rest.square() + others.square().sum(-1, keepdim=True)) / total.square()

    @staticmethod
    def gradient(z, y):
        others, rest, own, total = _relative(z, y)
        p, p_y, r = others / total, own / total, rest / total
        squares = p.square().sum(-1, keepdim=True)
        bracket = p + p_y * r - squares
        # At the likeliest other class p_j - sum p**2 may cancel almost wholly.  It is p_j p_y + sum p_i (p_j - p_i).
        top = p.argmax(-1, keepdim=True)
        highest = p.gather(-1, top)
        lead = (p * (highest - p)).sum(-1, keepdim=True)
        bracket = bracket.scatter(-1, top, p_y * (highest + r) + lead)
        return 2 * p * bracket, -2 * p_y * (r.square() + squares)


class _Spherical:
    @staticmethod
    def _parts(z, y):
        """Return the squares of e relative to the sum of all, that of the rest, and the cosine."""
        squares, rest, _, total = _relative(
            2 * z.to(working_dtype(z)), y
        )  # exp of the double: one rounding, not two
        _, _, own, _ = _relative(z, y)  # not the root of its square, which underflows first
        return squares / total, rest / total, own / total.sqrt()

    @staticmethod
    def value(z, y):
        _, rest, cosine = _Spherical._parts(z, y)
        return rest / (1 + cosine)  # 1 - cosine = (1 - cosine**2) / (1 + cosine)

    @staticmethod
    def gradient(z, y):
        squares, rest, cosine = _Spherical._parts(z, y)
        return cosine * squares, -cosine * rest


class _AbsoluteError:
    @staticmethod
    def value(z, y):
        _, rest, _, total = _relative(z, y)
        return 2 * (rest / total)

    @staticmethod
    def gradient(z, y):
        others, rest, own, total = _relative(z, y)
        p_y = own / total
        return 2 * p_y * (others / total), -2 * p_y * (rest / total)


class _Focal:
    @staticmethod
    def _cost(z, y):
        table = z.to(working_dtype(z)).reshape(-1, z.shape[-1])
        return cross_entropy(table, y.reshape(-1), reduction="none", validate=False).reshape(y.shape)

    @staticmethod
    def value(z, y, gamma):
        _, rest, _, total = _relative(z, y)
        return (rest / total) ** gamma * _Focal._cost(z, y)

    @staticmethod
    def gradient(z, y, gamma):
        others, rest, own, total = _relative(z, y)
        r, p_y = rest / total, own / total
        cost = torch.where(p_y == 0, 0.0, p_y * _Focal._cost(z, y))
        strength = r**gamma * (r + gamma * cost)
        # p_j r**(gamma - 1) = r**gamma p_j / r: the share among the others, which needs no power below zero
        share = others / torch.where(rest == 0, 1.0, rest)
        return strength * share, -strength
