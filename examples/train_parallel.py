"""Train a small GPT on the known world: alone, or in several processes that torchrun starts.

    python examples/train_parallel.py
    torchrun --nproc-per-node=2 examples/train_parallel.py

Both print the same curve. The chapter "One machine and more" walks through it.
"""

from __future__ import annotations

import argparse
import os
import signal

import numpy as np
import torch

from lossutils import TokenMean, cross_entropy
from lossutils.models import GPT
from lossutils.parallel import process_group
from lossutils.training import train
from lossutils.worlds import known_world


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=40, help="updates of the whole run")
    add("--batch-size", type=int, default=8, help="excerpts an update, over all processes")
    add("--length", type=int, default=32, help="tokens an excerpt, and the model's context")
    add("--width", type=int, default=32)
    add("--layers", type=int, default=1)
    add("--heads", type=int, default=4)
    add("--learning-rate", type=float, default=1e-2)
    add("--tokens", type=int, default=20_000, help="tokens of the training text")
    add("--device", default="cpu", help="auto, cpu, cuda or mps")
    add("--precision", default="float32", choices=["float32", "bfloat16"])
    add("--checkpoint", help="a file to keep the run in, and to go on from if it is there")
    add("--stop-after", type=int, metavar="N", help="stop after N updates, as Ctrl-C would")
    add(
        "--kill-process",
        type=int,
        metavar="RANK",
        help="this process kills itself halfway, to see what follows",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with process_group(timeout=120) as group:
        rank, size = (0, 1) if group is None else (group.rank(), group.size())
        world = known_world()
        text, held_out = (world.sample(n, np.random.default_rng(n)) for n in (options.tokens, 4096))
        excerpts = torch.as_tensor(held_out[: len(held_out) // options.length * options.length])
        excerpts = excerpts.view(-1, options.length)[rank::size]  # each process scores a part
        model = GPT(
            world.vocab_size,
            context=options.length,
            width=options.width,
            layers=options.layers,
            heads=options.heads,
        )
        asked = 0

        def held_out_loss(model: GPT) -> float:
            loss = TokenMean()
            for ids in excerpts.split(options.batch_size):
                ids = ids.to(model.embed.device)
                total = cross_entropy(model(ids).flatten(0, 1), ids.flatten(), reduction="sum")
                loss.update(total, ids.numel())
            return (loss if group is None else loss.all_reduce(group)).mean

        def stop() -> bool:
            nonlocal asked
            asked += 1
            if options.kill_process == rank and asked > options.steps // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return options.stop_after is not None and asked > options.stop_after

        history = train(
            model,
            cross_entropy,
            text,
            steps=options.steps,
            batch_size=options.batch_size,
            length=options.length,
            learning_rate=options.learning_rate,
            device=options.device,
            precision=options.precision,
            evaluate=held_out_loss,
            evaluate_every=max(1, options.steps // 4),
            checkpoint=options.checkpoint,
            resume=options.checkpoint is not None,
            stop=stop,
            group=group,
        )
        if rank == 0:
            weights = sum(p.numel() for p in model.parameters())
            place = next(model.parameters()).device.type
            print(
                f"processes: {size}   device: {place}   precision: {options.precision}   weights: {weights:,}"
            )
            for row in history.rows():
                if "validation_loss" in row:
                    print(f"step {row['step']:4}   held out {row['validation_loss']:.3f} nats/token")
            print(f"entropy of the text   {world.entropy_rate:.3f} nats/token")
            if history.stopped:
                print(f"stopped after {len(history.losses)} of {options.steps} updates")


if __name__ == "__main__":
    main()
