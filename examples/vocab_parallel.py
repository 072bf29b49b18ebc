"""Cross-entropy with the vocabulary in shards, one a process, beside the loss of one process with all logits.

torchrun --nproc-per-node=2 examples/vocab_parallel.py
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from lossutils import cross_entropy
from lossutils.parallel import process_group, vocab_parallel_cross_entropy

TOKENS, WIDTH, VOCABULARY = 64, 32, 1000


def plain_loss(local_logits: torch.Tensor, z_y: torch.Tensor) -> torch.Tensor:
    """The usual way: log of the reduced sum of exponentials, the target's term among them."""
    m = local_logits.amax(-1)
    dist.all_reduce(m, dist.ReduceOp.MAX)
    total = (local_logits - m[:, None]).exp().sum(-1)
    dist.all_reduce(total)
    return total.log() + m - z_y


def main() -> None:
    with process_group(timeout=120) as group:
        if group is None:
            raise SystemExit("start this with torchrun --nproc-per-node=2")
        rank, size = group.rank(), group.size()
        generator = torch.Generator().manual_seed(0)
        hidden = torch.randn(TOKENS, WIDTH, generator=generator)
        weight = torch.randn(VOCABULARY, WIDTH, generator=generator) / WIDTH**0.5
        target = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)

        # One process, with all logits.
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = cross_entropy(h @ w.T, target)
        loss.backward()

        # Shards of unequal length: the first process has what does not divide.
        lengths = [VOCABULARY // (size + 1)] * size
        lengths[0] += VOCABULARY - sum(lengths)
        start = sum(lengths[:rank])
        shard = slice(start, start + lengths[rank])
        local_h, local_w = hidden.clone().requires_grad_(), weight[shard].clone().requires_grad_()
        local_loss = vocab_parallel_cross_entropy(local_h @ local_w.T, target, vocab_sizes=lengths)
        local_loss.backward()
        dist.all_reduce(local_h.grad)  # each shard's part of the gradient of what comes before it

        # A target that is all but certain: logit 20 for it, 0 for one other token, both in one shard.
        sure = torch.full((1, lengths[rank]), -torch.inf)
        if rank == 0:
            sure[0, :2] = torch.tensor([20.0, 0.0])
        careful = vocab_parallel_cross_entropy(sure, torch.tensor([0]), vocab_sizes=lengths)
        plain = plain_loss(sure, torch.tensor([20.0]))

        differences = torch.stack(
            [
                (local_loss.detach() - loss.detach()).abs() / loss.detach(),
                (local_h.grad - h.grad).abs().max() / h.grad.abs().max(),
                (local_w.grad - w.grad[shard]).abs().max() / w.grad.abs().max(),
            ]
        )
        dist.all_reduce(differences, dist.ReduceOp.MAX)
        if rank == 0:
            print(f"shards                        {' + '.join(map(str, lengths))} tokens")
            print(f"loss                          {local_loss.item():.4f} nats/token")
            for name, value in zip(("loss", "hidden states", "weights"), differences.tolist(), strict=True):
                what = name if name == "loss" else f"gradient of {name}"
                print(
                    f"{what:<29} {'the same' if value < 1e-6 else 'NOT the same'} as in one process, to 1e-6"
                )
            print(f"a sure target, careful        {careful.item():.4e} nats")
            print(f"a sure target, the plain way  {plain.item():.4e} nats")


if __name__ == "__main__":
    main()
