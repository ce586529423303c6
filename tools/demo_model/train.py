#!/usr/bin/env python3
"""Trains the demo model: rectified flow on coloured Fashion-MNIST.

    python train.py --cache build/demo_model --checkpoints build/demo_model/checkpoints
    python train.py --smoke        50 steps of a small batch; checks the loss and the resume

A run continues from CHECKPOINTS/last.pt if that exists. All random numbers of step n come from a
generator seeded with (seed, n), so a resumed run computes the same bits as an unbroken one (same
machine, torch and thread count). --total-steps may change on resume while the learning rate is
still flat: the cool-down is its last --cooldown share. SIGTERM saves a checkpoint and stops.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import tempfile
import time

import torch

import dataset
import safetensors_io
from tinyflux import FluxConfig, TinyFlux, initialise, rope_tables

PROMPT_DROPOUT = 0.1
SEED_STRIDE = 1_000_003
LOG_EVERY = 25


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=pathlib.Path, help="folder with prompts_all.safetensors")
    parser.add_argument("--checkpoints", type=pathlib.Path)
    parser.add_argument("--total-steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--cooldown", type=float, default=0.5, help="share of the steps")
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--compile", action="store_true", help="torch.compile the loss")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--stop-at", type=int, help="save and stop after this step")
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args(arguments)


class TrainingData:
    """Grey images with labels, and the encoded prompts; row -1 is the null prompt."""

    def __init__(self, images, labels, states, pooled):
        self.images, self.labels = images, labels
        self.states, self.pooled = states, pooled

    def draw(self, step, batch, seed):
        """Everything random of one step: tokens, prompt states and pooled, t, noise."""
        g = torch.Generator().manual_seed(seed * SEED_STRIDE + step)
        index = self.epoch_rows(step, batch, seed)
        color = torch.randint(0, 8, (batch,), generator=g)
        background = (color + 1 + torch.randint(0, 7, (batch,), generator=g)) % 8
        prompt = dataset.prompt_index(self.labels[index], color, background)
        dropped = torch.rand(batch, generator=g) < PROMPT_DROPOUT
        prompt = torch.where(dropped, len(self.states) - 1, prompt)
        grey = self.images[index].float() / 255
        tokens = dataset.to_tokens(dataset.colorize(grey, color, background))
        t = torch.sigmoid(torch.randn(batch, generator=g))
        noise = torch.randn(tokens.shape, generator=g)
        return tokens, self.states[prompt], self.pooled[prompt], t, noise

    def epoch_rows(self, step, batch, seed):
        """Rows of this step in the shuffled order of its epoch; the last part batch is dropped."""
        per_epoch = len(self.images) // batch
        epoch, place = divmod(step, per_epoch)
        if getattr(self, "epoch", None) != epoch:
            g = torch.Generator().manual_seed(seed * SEED_STRIDE - 1 - epoch)
            self.epoch, self.order = epoch, torch.randperm(len(self.images), generator=g)
        return self.order[place * batch : (place + 1) * batch]


def load_data(cache):
    tensors, _ = safetensors_io.read(cache / "prompts_all.safetensors")
    states, pooled = (
        torch.from_numpy(safetensors_io.to_float32(tensors[n])) for n in ("states", "pooled")
    )
    return TrainingData(*dataset.load_split("train"), states, pooled)


def learning_rate(step, args):
    cooldown_steps = max(1, round(args.total_steps * args.cooldown))
    warm = (step + 1) / args.warmup
    cool = (args.total_steps - step) / cooldown_steps
    return args.learning_rate * min(1.0, warm, cool)


class Trainer:
    def __init__(self, args, data):
        self.args, self.data = args, data
        self.model = TinyFlux(FluxConfig())
        initialise(self.model, torch.Generator().manual_seed(args.seed))
        self.parameters = list(self.model.parameters())
        self.ema = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=0.0, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        self.rope = rope_tables(self.model.config, dataset.TEXT_TOKENS, rows=8, cols=8)
        self.loss = torch.compile(self.flow_loss) if args.compile else self.flow_loss
        self.step, self.history = 0, []

    def flow_loss(self, tokens, states, pooled, t, noise):
        mix = t[:, None, None]
        with self.autocast():
            velocity = self.model((1 - mix) * tokens + mix * noise, states, pooled, t, self.rope)
        return (velocity.float() - (noise - tokens)).square().mean()

    def autocast(self):
        if self.args.precision == "f32":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16)

    def train_step(self):
        rate = learning_rate(self.step, self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss(*self.data.draw(self.step, self.args.batch, self.args.seed))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.args.ema, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.parameters, 1 - decay)
        self.history.append(loss.item())

    def ema_state(self):
        return dict(zip((n for n, _ in self.model.named_parameters()), self.ema))

    def save(self, path):
        """To a side file, then renamed: a crash leaves the previous checkpoint."""
        path.parent.mkdir(parents=True, exist_ok=True)
        side = path.with_name(path.name + ".part")
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema_state(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "arguments": {k: str(v) for k, v in vars(self.args).items()},
        }
        torch.save(state, side)
        os.replace(side, path)

    def load(self, path):
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for target, value in zip(self.ema, state["ema"].values()):
                target.copy_(value)
        self.step, self.history = state["step"], state["history"]


def resume(trainer, args):
    """Goes on from the last checkpoint, if there is one."""
    path = args.checkpoints / "last.pt"
    if path.exists():
        trainer.load(path)
        print(f"continued from step {trainer.step}", flush=True)


def run(trainer, args):
    """Steps until --total-steps, --stop-at or SIGTERM; saves at the end and every few minutes."""
    path = args.checkpoints / "last.pt"
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    last_step = min(args.total_steps, args.stop_at or args.total_steps)
    saved = logged = time.monotonic()
    logged_step = trainer.step
    while trainer.step < last_step and not stop:
        trainer.train_step()
        now = time.monotonic()
        if trainer.step % LOG_EVERY == 0:
            speed = (trainer.step - logged_step) * args.batch / (now - logged)
            mean = sum(trainer.history[-LOG_EVERY:]) / LOG_EVERY
            rate = learning_rate(trainer.step - 1, args)
            text = f"step {trainer.step} loss {mean:.4f} lr {rate:.2e} {speed:.1f} samples/s"
            print(time.strftime("%H:%M:%S"), text, flush=True)
            logged, logged_step = now, trainer.step
        if now - saved > 60 * args.save_minutes:
            trainer.save(path)
            saved = now
    trainer.save(path)
    print(f"stopped at step {trainer.step}", flush=True)


def smoke_data():
    """Shipped prompts; the real images where installed, else rectangles."""
    demo = pathlib.Path(__file__).resolve().parents[2] / "demo"
    tensors, _ = safetensors_io.read(demo / "prompts.safetensors")
    parts = {n: torch.from_numpy(safetensors_io.to_float32(t)) for n, t in tensors.items()}
    # Few of the 640 prompts are shipped: each row repeats one of them, which is enough here.
    rows = torch.arange(640) % len(parts["states"])
    states = torch.cat([parts["states"][rows], parts["null_states"][None]])
    pooled = torch.cat([parts["pooled"][rows], parts["null_pooled"][None]])
    if dataset.FASHION_MNIST.exists():
        images, labels = dataset.load_split("t10k")
    else:
        images, labels = dataset.synthetic_split(2000, torch.Generator().manual_seed(1))
    return TrainingData(images, labels, states, pooled)


def smoke():
    """50 steps; the loss must fall, and step 35 resumed from its checkpoint must end in the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        common = ["--total-steps=50", "--batch=16", "--warmup=10", "--precision=f32"]
        common.append(f"--checkpoints={folder}")
        args, first_args = parse_arguments(common), parse_arguments([*common, "--stop-at=35"])
        unbroken, resumed = Trainer(args, smoke_data()), Trainer(args, smoke_data())
        run(unbroken, first_args)
        resume(resumed, args)
        run(resumed, args)
        run(unbroken, args)
    first, last = (sum(part) / 10 for part in (unbroken.history[:10], unbroken.history[-10:]))
    if not last < 0.8 * first:
        raise SystemExit(f"smoke: the loss must fall below 0.8 of its start: {first} -> {last}")
    pairs = [*zip(unbroken.parameters, resumed.parameters), *zip(unbroken.ema, resumed.ema)]
    if not all(torch.equal(a, b) for a, b in pairs) or unbroken.history != resumed.history:
        raise SystemExit("smoke: the resumed run differs from the unbroken one")
    print(f"smoke: loss {first:.3f} -> {last:.3f}, resumed run identical")


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    if args.smoke:
        smoke()
        return
    if not args.cache or not args.checkpoints:
        raise SystemExit("train: --cache and --checkpoints are required")
    trainer = Trainer(args, load_data(args.cache))
    resume(trainer, args)
    run(trainer, args)


if __name__ == "__main__":
    main()
