"""Train the part detector on rendered scenes, on a CPU, and write it as ONNX.

    python -m haihe.models.training.train_part --out models/zoo/part.onnx

Plain 3x3 convolutions: on CPUs with bfloat16 units they train faster than depthwise ones with a
ninth of the weights. Loss: CenterNet heat focal loss and GIoU on the cells near a centre.
Cost: about 30 CPU-minutes on two cores and 5 GB of scratch space.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from haihe.models.training.dataset import (
    COLUMNS,
    HEIGHT,
    ROWS,
    STRIDE,
    WIDTH,
    Batch,
    Labels,
    Mix,
    build,
    make_batch,
)
from haihe.models.training.parts import CLASSES, U8

log = logging.getLogger(__name__)

SEED = 20260
BATCH = 32
STEPS = 4800
WARM_UP = 100
RATE = 4e-3


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    pad = 1 if size == 6 else size // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, pad, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class PartNet(nn.Module):  # type: ignore[misc]
    """Stride-8 centre detector; features (B, 3, 240, 320) to heat logits and box sides in px."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        # The residual at stride 4 is for edges: a hexagon of 24 px differs from a circle by 2 px.
        self.stem = nn.Sequential(_conv(3, 32, 6, 4), _Residual(32))
        self.fine = nn.Sequential(_conv(32, 48, 3, 2), _Residual(48))
        self.coarse = nn.Sequential(_conv(48, 80, 3, 2), *(_Residual(80) for _ in range(3)))
        self.down = nn.Conv2d(80, 48, 1)
        self.side = nn.Conv2d(48, 48, 1)
        self.neck = nn.Sequential(_Residual(48), _conv(48, 48))
        self.heat = nn.Conv2d(48, classes, 1)
        self.box = nn.Conv2d(48, 4, 1)
        nn.init.constant_(self.heat.bias, -4.6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give heat logits (B, C, 30, 40) and l, t, r, b (B, 4, 30, 40) in px."""
        fine = self.fine(self.stem(x))
        up = F.interpolate(self.down(self.coarse(fine)), scale_factor=2.0, mode="nearest")
        neck = self.neck(self.side(fine) + up)
        return self.heat(neck), F.softplus(self.box(neck)) * 16.0


class Deployed(nn.Module):  # type: ignore[misc]
    """The net as it is shipped: bytes in, peaks and sides out."""

    def __init__(self, net: PartNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Take uint8 BGR (1, 240, 320, 3); give heat kept at its 3x3 maxima, and sides in px."""
        x = image.permute(0, 3, 1, 2).float() * (1 / 64.0) - 2.0
        logits, box = self.net(x)
        heat = torch.sigmoid(logits)
        peak = F.max_pool2d(heat, 3, 1, 1)
        return heat * (heat == peak).float(), box


def heat_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """CenterNet focal loss, alpha 2, beta 4, per centre."""
    p = torch.sigmoid(logits).clamp(1e-5, 1 - 1e-5)
    peak = (target == 1.0).float()
    hit = -peak * (1 - p) ** 2 * torch.log(p)
    miss = -(1 - peak) * (1 - target) ** 4 * p**2 * torch.log(1 - p)
    return ((hit + miss) * counted).sum() / peak.sum().clamp(min=1.0)


def box_loss(sides: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted 1 - GIoU over the cells near a centre."""
    u = torch.arange(COLUMNS) * STRIDE + (STRIDE - 1) / 2
    v = (torch.arange(ROWS) * STRIDE + (STRIDE - 1) / 2)[:, None]
    x1, y1, x2, y2 = u - sides[:, 0], v - sides[:, 1], u + sides[:, 2], v + sides[:, 3]
    a1, b1, a2, b2 = target.unbind(1)
    shared = (torch.minimum(x2, a2) - torch.maximum(x1, a1)).clamp(min=0) * (
        torch.minimum(y2, b2) - torch.maximum(y1, b1)
    ).clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared
    hull = (
        (torch.maximum(x2, a2) - torch.minimum(x1, a1))
        * (torch.maximum(y2, b2) - torch.minimum(y1, b1))
    ).clamp(min=1e-6)
    giou = shared / union.clamp(min=1e-6) - (hull - union) / hull
    return ((1 - giou) * weight).sum() / weight.sum().clamp(min=1.0)


def _normalise(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Scale bytes as the shipped graph does, with a random gain and offset per channel."""
    n = len(batch.images)
    gain = torch.from_numpy(rng.uniform(0.75, 1.3, (n, 1, 1, 3)).astype(np.float32) / 64.0)
    offset = torch.from_numpy(rng.uniform(-0.25, 0.25, (n, 1, 1, 3)).astype(np.float32) - 2.0)
    x = torch.from_numpy(batch.images).to(torch.bfloat16)
    return (x * gain.bfloat16() + offset.bfloat16()).permute(0, 3, 1, 2)


def _groups(net: nn.Module) -> list[dict[str, object]]:
    heavy = [p for p in net.parameters() if p.ndim > 1]
    light = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": heavy, "weight_decay": 0.02}, {"params": light, "weight_decay": 0.0}]


def _follow(mean: PartNet, net: PartNet, step: int) -> None:
    keep = min(0.998, (1 + step) / (10 + step))
    with torch.no_grad():
        pairs = zip(mean.state_dict().values(), net.state_dict().values(), strict=True)
        for slow, fast in pairs:
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - keep)
            else:
                slow.copy_(fast)


def train(images: U8, labels: Labels, steps: int, scratch: Path) -> PartNet:
    """Train for `steps` batches of 32; give the running mean of the weights."""
    torch.manual_seed(SEED)
    rng, color = np.random.default_rng(SEED), np.random.default_rng(SEED + 1)
    net: PartNet = PartNet(len(CLASSES)).to(memory_format=torch.channels_last)
    mean: PartNet = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(_groups(net), lr=RATE)
    order = np.zeros(0, np.int64)

    def next_batch() -> tuple[Batch, Tensor]:
        nonlocal order
        if len(order) < BATCH:
            order = rng.permutation(len(images))
        picks, order = order[:BATCH], order[BATCH:]
        batch = make_batch(images, labels, picks, rng)
        return batch, _normalise(batch, color)

    sums = [0.0, 0.0]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next_batch)
        for step in range(steps):
            batch, pixels = coming.result()
            coming = pool.submit(next_batch)
            warm = min(1.0, (step + 1) / WARM_UP)
            rate = RATE * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            for group in optimiser.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16):
                logits, sides = net(pixels)
            heat = heat_loss(
                logits.float(), torch.from_numpy(batch.heat), torch.from_numpy(batch.counted)
            )
            box = box_loss(
                sides.float(), torch.from_numpy(batch.sides), torch.from_numpy(batch.weight)
            )
            optimiser.zero_grad(set_to_none=True)
            (heat + 2.0 * box).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimiser.step()
            _follow(mean, net, step)
            sums[0] += heat.item()
            sums[1] += box.item()
            if (step + 1) % 100 == 0:
                log.info(
                    "step %d heat %.3f box %.3f cpu %.1f min",
                    step + 1,
                    sums[0] / 100,
                    sums[1] / 100,
                    time.process_time() / 60,
                )
                sums = [0.0, 0.0]
            if (step + 1) % 600 == 0:
                export(mean, scratch / "midway.onnx")
    return mean


def export(net: PartNet, path: Path) -> None:
    """Write the shipped graph; float32, one file."""
    model = Deployed(copy.deepcopy(net).to(memory_format=torch.contiguous_format)).eval()
    example = torch.zeros((1, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        (example,),
        str(path),
        input_names=["image"],
        output_names=["heat", "box"],
        opset_version=17,
        dynamo=False,
    )


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("models/zoo/part.onnx"))
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/haihe-part"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, default=2, help="processes that draw scenes")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # One thread trains, one prepares the next batch: two OpenMP threads on two busy cores cost
    # 0.57 CPU-s a step, most of it waiting for each other, against 0.32.
    torch.set_num_threads(1)
    start = time.monotonic()
    images, labels = build(args.scratch, Mix(), args.workers)
    drawing = resource.getrusage(resource.RUSAGE_CHILDREN)
    log.info(
        "%d pictures, %d boxes, %.1f CPU-min of drawing",
        len(images),
        len(labels.classes),
        (drawing.ru_utime + drawing.ru_stime) / 60,
    )
    net = train(images, labels, args.steps, args.scratch)
    export(net, args.out)
    log.info(
        "%s: %d parameters, %.1f CPU-min of training, %.1f min in all",
        args.out,
        sum(p.numel() for p in net.parameters()),
        time.process_time() / 60,
        (time.monotonic() - start) / 60,
    )


if __name__ == "__main__":
    main()
