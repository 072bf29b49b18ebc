"""Alignment: from a language model to a useful one, in an instruction world whose utility is exactly known.

The stages, each a function with one frozen configuration: :func:`pretrain`, :func:`sft`, :func:`train_reward_model`,
:func:`policy_gradient`, :func:`dpo`. Each returns a new model with its history and leaves what it was given as it is.
:func:`evaluate` makes one row of numbers of a model. :func:`best_of_n` optimises without training. In a small world
:func:`exact_optimum` and :func:`exact_kl` say what the stages only approach.

A whole run::

    world = instruction_world()
    base, _ = pretrain(world)
    helper, _ = sft(base, world, world.demonstrations(192, rng))
    pairs = world.preferences(384, rng, candidates=sampler(helper, world))
    aligned, _ = dpo(helper, world, pairs)
    evaluate(aligned, world, base=base).as_row()

A GPU and a larger model are a matter of configuration: ``PretrainConfig(width=256, layers=6, heads=8,
device="auto")``; the later stages train where the model is.
"""

from ._stages import Trained
from .best_of_n import best_of_n, best_of_n_distribution, best_of_n_expectation, best_of_n_kl_bound
from .dpo import DPOConfig, dpo
from .evaluation import Evaluation, evaluate, spread
from .optimum import (
    all_responses,
    exact_kl,
    exact_optimum,
    optimal_value,
    regularised_value,
    response_table,
)
from .policy import PolicyConfig, TrainedPolicy, policy_gradient
from .responses import kl_to_reference, response_logprobs, sample_responses, sampler
from .reward import RewardConfig, RewardModel, TrainedReward, reward_accuracy, train_reward_model
from .sft import PretrainConfig, SFTConfig, pretrain, sft

__all__ = [
    "PretrainConfig",
    "pretrain",
    "SFTConfig",
    "sft",
    "DPOConfig",
    "dpo",
    "RewardConfig",
    "RewardModel",
    "train_reward_model",
    "TrainedReward",
    "reward_accuracy",
    "PolicyConfig",
    "policy_gradient",
    "TrainedPolicy",
    "Trained",
    "best_of_n",
    "best_of_n_expectation",
    "best_of_n_distribution",
    "best_of_n_kl_bound",
    "exact_optimum",
    "optimal_value",
    "regularised_value",
    "all_responses",
    "response_table",
    "exact_kl",
    "sample_responses",
    "sampler",
    "response_logprobs",
    "kl_to_reference",
    "evaluate",
    "Evaluation",
    "spread",
]
