"""Put the probabilities of a trained model right again, where it is known what bent them.

- :func:`restore_prior`: class weights (or resampling) bent them by known factors;
- :func:`restore_focal`: the focal loss bent them, by a known function;
- :func:`fit_temperature`: over-confidence bent them, and one number, fitted on held-out data, takes most of it back.

Everything here is for reports and decisions, not for training: no gradient flows through a fit.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from lossutils import _checks
from lossutils.cross_entropy import _checked as _checked_as_cross_entropy
from lossutils.logspace import result_dtype, softmax, working_dtype

__all__ = ["fit_temperature", "restore_focal", "restore_prior"]


def restore_prior(probs, weight, *, axis: int = -1, validate: bool | None = None):
    """Return the probabilities that a model trained with class weights would have had without them.

    Use it after training with a weighted loss, or on resampled data: if class c was seen `weight[c]` times as often (or
    counted as much), the odds come out multiplied by the weights' ratio, and here they are divided by it again.

    ::

        binary (weight a number w, that of "yes"):    p / (p + w (1 - p))
        multiclass (weight of shape (C,)):            (p_c / w_c) / sum_k (p_k / w_k)

    Parameters
    ----------
    probs : array_like or torch.Tensor
        What the model says.  With a number as weight: probabilities of "yes", any shape.  With weights of shape (C,):
        probabilities that sum to one along `axis`, of size C.
    weight : float, or array_like or torch.Tensor of shape (C,)
        The weights that were trained with, > 0.  Only their ratios matter: "no" has the weight 1 against a number.
    axis : int
        The axis of classes; not used with a number.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor, `probs`' shape
        Probabilities.  float64 if an array argument is float64 (or integers in NumPy), else float32.

    Raises
    ------
    ValueError
        Probabilities outside [0, 1] or that do not sum to one (tolerances as in
        :func:`lossutils.information.entropy`), weights that are not positive and finite, shapes that do not fit.
    TypeError
        Integer, boolean or complex tensors; tensors mixed with arrays.

    Notes
    -----
    A weighted cross-entropy is smallest at probabilities proportional to w_c p_c, so for a model that reached its
    minimum this is exact.  ``restore_prior(p, 1 / w)`` goes the other way: what the weights will do to p.

    From logits, subtract log(weight) instead: it is the same, and keeps digits where p is close to one.

    Accuracy: at most 4 ULP for the numbers given.  0 stays 0 and 1 stays 1.  torch: differentiable in `probs`.

    Examples
    --------
    A class with probability 0.0357 that counts 14 times comes out near one third:

    >>> print(restore_prior(0.0357, 1 / 14).round(3), restore_prior(0.3414, 14.0).round(3))
    0.341 0.036
    >>> restore_prior([0.5, 0.25, 0.25], [2.0, 1.0, 1.0]).round(4)
    array([0.3333, 0.3333, 0.3333])

    References
    ----------
    Elkan (2001), "The foundations of cost-sensitive learning", theorem 2.  Saerens, Latinne & Decaestecker (2002),
    "Adjusting the outputs of a classifier to new a priori probabilities".

    See Also
    --------
    lossutils.cross_entropy.cross_entropy : ``weight``, whose effect this undoes.
    """
    probs = _checks.as_float("probs", probs)
    read = _checks.may_read(probs, validate)
    if read:
        _checks.probabilities("probs", probs)
    if not _checks.is_torch(weight) and np.ndim(weight) == 0:
        w = _checks.real("weight", weight, 0.0)
        if w == 0:
            raise ValueError("weight must be positive, got 0.0")
        p = _widen(probs)
        xp = torch if _checks.is_torch(p) else np
        p = xp.where(p > 1, xp.ones_like(p), p)  # what rounding put above one
        # the larger term of the sum stays free of the factor, which may be anywhere between 1e-300 and 1e300
        return _cast(p / (p + w * (1 - p)) if w <= 1 else (p / w) / (p / w + (1 - p)), result_dtype(probs))
    weight = _checks.as_float("weight", weight)
    _checks.same_kind(probs=probs, weight=weight)
    if probs.ndim == 0:
        raise ValueError("probs must have an axis of classes for weights of shape (C,), got a scalar")
    axis = _checks.one_axis("axis", axis, probs.ndim)
    if tuple(weight.shape) != (probs.shape[axis],):
        raise ValueError(
            f"weight must be a number or have shape ({probs.shape[axis]},), one a class, got {tuple(weight.shape)}"
        )
    if read:
        _checks.distribution("probs", probs, axis)
        bad = ~((weight > 0) & (weight < math.inf))
        if bad.any():
            raise ValueError(f"weight must be positive and finite, got {weight[bad].reshape(-1)[0].item()!r}")
    wide = _widen(weight)
    wide = wide / wide.min()
    shape = [1] * probs.ndim
    shape[axis] = -1
    odds = _widen(probs) / wide.reshape(shape)
    dtypes = {result_dtype(probs), result_dtype(weight)}
    widest = max(dtypes, key=lambda dtype: str(dtype).endswith("64"))
    return _cast(odds / odds.sum(axis, keepdims=True), widest)


def restore_focal(probs, gamma: float = 2.0, *, axis: int = -1, validate: bool | None = None):
    """Return the probabilities that a focal loss was smallest for: from its minimiser back to the truth.

    Use it on the softmax of a model trained with :func:`lossutils.losses.focal_loss`, whose probabilities are flatter
    than the truth.

    With q = probs::

        p_c = h(q_c) / sum_k h(q_k)        h(q) = q / ((1 - q)**gamma - gamma (1 - q)**(gamma - 1) q log(q))

    Parameters
    ----------
    probs : array_like or torch.Tensor, any shape with at least one axis
        Probabilities that sum to one along `axis`: what the model says.
    gamma : float >= 0
        The one that was trained with.
    axis : int
        The axis of classes.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor, `probs`' shape
        Probabilities.  float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    ValueError
        Probabilities that are negative or do not sum to one (tolerances as in
        :func:`lossutils.information.entropy`), a negative gamma.
    TypeError
        Integer, boolean or complex tensors; a gamma that is not a number.

    Notes
    -----
    At the minimum of sum_c p_c loss(q_c) over the simplex all p_c loss'(q_c) are equal; h is -1/loss'.  The order of
    the classes stays, so decisions do.  A class with q = 1 gets everything.

    1 - q_c is computed as the sum of the other probabilities, so that nothing cancels near one.  Accuracy: at most
    4 + 4 gamma ULP for the numbers given.  torch: no gradient flows.

    Examples
    --------
    >>> restore_focal([0.7, 0.3]).round(3)
    array([0.906, 0.094])
    >>> restore_focal([0.7, 0.3], gamma=0.0)
    array([0.7, 0.3])

    References
    ----------
    Charoenphakdee, Vongkulbhisal, Chairatanakul & Sugiyama (2021), "On focal loss for class-posterior probability
    estimation: a theoretical perspective", arXiv:2011.09172.

    See Also
    --------
    lossutils.losses.focal_loss : what bends them.
    """
    gamma = _checks.real("gamma", gamma, 0.0)
    probs = _checks.as_float("probs", probs)
    if probs.ndim == 0:
        raise ValueError(f"probs must have an axis of classes, got the scalar {probs.item()!r}")
    axis = _checks.one_axis("axis", axis, probs.ndim)
    if _checks.may_read(probs, validate):
        _checks.distribution("probs", probs, axis)
    numpy = not _checks.is_torch(probs)
    given = torch.tensor(probs) if numpy else probs.detach()
    q = given.to(working_dtype(given)).movedim(axis, -1)
    # the sum of the others, one row of a table for each class: (C, C) numbers, so only for the largest class
    top = q.argmax(-1, keepdim=True)
    rest = (1 - q).scatter(-1, top, q.scatter(-1, top, 0.0).sum(-1, keepdim=True)).clamp(min=0.0)
    # everything times rest_top**(gamma - 1) q_top: the largest class comes out as about one, nothing divides by zero
    slope = rest - gamma * torch.xlogy(q, q)
    rest_top, slope_top, q_top = (x.gather(-1, top) for x in (rest, slope, q))
    ratio = torch.where(rest == 0, 1.0, rest_top / torch.where(rest == 0, 1.0, rest)) ** (gamma - 1)
    certain = rest_top == 0
    h = torch.where(certain, 0.0, (q / q_top) * (slope_top / torch.where(slope == 0, 1.0, slope)) * ratio)
    h = h.scatter(-1, top, 1.0)
    p = (h / h.sum(-1, keepdim=True)).movedim(-1, axis).to(result_dtype(given))
    return p.numpy() if numpy else p


def fit_temperature(logits, target, *, ignore_index: int = -100, validate: bool | None = None) -> float:
    """Return the temperature T at which logits / T have the lowest cross-entropy.

    Use it on held-out data, to make a model as sure as it has a right to be: one number, which changes no decision.

    ::

        T = argmin_{T > 0}  mean_i cross_entropy(logits_i / T, target_i)

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalised log-probabilities, finite: of examples that the model was not trained on.
    target : integer array_like or torch.Tensor, shape (), (N,) or (N, d1, ...)
        Classes in [0, C), or `ignore_index`.
    ignore_index : int
        Rows with this target are left out.
    validate : bool, optional
        Whether to check the values of `target` and `logits`.  None checks on the CPU only.

    Returns
    -------
    float
        T > 0.  Above 1 the model was too sure, below 1 not sure enough.

    Raises
    ------
    ValueError
        As :func:`lossutils.cross_entropy.cross_entropy`; no row that counts; logits that are not finite; or a fit that
        has no end: every target has the largest logit (T would be 0), or the targets' logits are not above the mean
        of their rows on the whole (T would be infinite).
    TypeError
        As :func:`lossutils.cross_entropy.cross_entropy`; targets that are probabilities.

    Notes
    -----
    In 1/T the loss is convex, and its slope is the mean of E_q[z] - z_y, with q = softmax(z / T).  The root of that
    is bracketed and bisected in float64, to a relative 1e-12.

    Examples
    --------
    A model that says 0.953 and is right in 4 cases of 5 should say 0.8:

    >>> T = fit_temperature([[3.0, 0.0]] * 5, [0, 0, 0, 0, 1])
    >>> f"{T:.4f} {softmax([3.0 / T, 0.0])[0]:.4f}"
    '2.1640 0.8000'

    References
    ----------
    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks", arXiv:1706.04599.

    See Also
    --------
    lossutils.calibration.expected_calibration_error : to see what it mends.
    """
    logits, target = _checks.as_float("logits", logits), _checks.as_integer("target", target)
    _checks.same_kind(logits=logits, target=target)
    logits, target, _, _ = _checked_as_cross_entropy(
        logits, target, None, ignore_index, "mean", 0.0, 0.0, validate
    )
    if not _checks.is_torch(logits):
        logits, target = torch.tensor(logits), torch.tensor(target)
    z = logits.detach() if logits.ndim == 1 else logits.detach().movedim(1, -1)
    z, y = z.reshape(-1, z.shape[-1]), target.reshape(-1)
    z, y = z[y != ignore_index], y[y != ignore_index]
    if len(y) == 0:
        raise ValueError("target must have a row that counts, got none")
    if _checks.may_read(z, validate) and not torch.isfinite(z).all():
        raise ValueError(f"logits must be finite, got {z[~torch.isfinite(z)][0].item()!r}")
    z = z.to(working_dtype(z))
    z = z - z.amax(-1, keepdim=True)  # a shift of a row changes nothing; small numbers round less
    own = z.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    if (own == 0).all():
        raise ValueError(
            "target must contain an error, got the largest logit in every row: the best temperature is 0"
        )
    if float((own - z.mean(-1)).mean()) <= 0:
        raise ValueError(
            "target must have logits above the mean of their rows on the whole, got none: the best temperature is "
            "infinite"
        )

    def slope(inverse: float) -> float:
        return float(((softmax(z * inverse) * z).sum(-1) - own).mean())

    low, high = 1.0, 1.0  # 1/T: the slope rises with it
    while slope(low) > 0:
        low /= 2
    while slope(high) < 0:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


# ----------------------------------------------------------------------------------------------------------


def _widen(x):
    return x.to(working_dtype(x)) if _checks.is_torch(x) else x.astype(np.float64)


def _cast(x, dtype):
    return x.to(dtype) if _checks.is_torch(x) else np.asarray(x).astype(dtype)[()]
