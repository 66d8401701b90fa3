"""A DINOv2 with registers in PyTorch, random weights: exported to ONNX, and its tokens by ONNX Runtime.

Arguments: folder of float32 images `images.npy` (n, 3, side, side), exporter (`dynamo` or `legacy`), width, blocks.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from torch.nn import functional

folder, exporter, width, blocks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
PATCH, REGISTERS = 14, 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale1, self.scale2 = nn.Parameter(torch.full((width,), 0.3)), nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x):
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.scale1 * self.out(attended)
        return x + self.scale2 * self.down(functional.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.first = nn.Parameter(torch.randn(1, 1, width))
        self.registers = nn.Parameter(torch.randn(1, REGISTERS, width))
        self.places = nn.Parameter(torch.randn(1, 1 + (side // PATCH) ** 2, width) * 0.1)
        self.blocks, self.norm = nn.Sequential(*(Block() for _ in range(blocks))), nn.LayerNorm(width, 1e-6)

    def forward(self, pixel_values):
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = torch.cat([x[:, :1], self.registers.expand(x.shape[0], -1, -1), x[:, 1:]], 1)
        return self.norm(self.blocks(x))


torch.manual_seed(0)
images = np.load(folder / "images.npy")
model = Encoder(images.shape[-1]).eval()
path = folder / "encoder.onnx"
names = {"input_names": ["pixel_values"], "output_names": ["last_hidden_state"]}
torch.onnx.export(model, (torch.zeros(1, *images.shape[1:]),), path, dynamo=exporter == "dynamo", **names)
session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
begun = time.perf_counter()
tokens = np.concatenate([session.run(None, {"pixel_values": image[None]})[0] for image in images])
seconds = time.perf_counter() - begun
with torch.no_grad():
    own = model(torch.from_numpy(images)).numpy()
np.savez(folder / "tokens.npz", tokens=tokens, own=own)
print(json.dumps({"onnxruntime": ort.__version__, "torch": torch.__version__, "rate": len(images) / seconds}))
