"""A model of the instruction world that costs no training."""

import torch

from lossutils.instruction_world import small_instruction_world
from lossutils.models import GPT

SMALL = small_instruction_world()


def tiny(world=SMALL, *, seed=0, sharpness=1.0):
    """An untrained model whose predictions are far from uniform."""
    model = GPT(world.vocab_size, context=world.max_tokens, width=8, layers=1, heads=2, seed=seed).double()
    with torch.no_grad():
        model.head.weight *= 10 * sharpness
    return model
