"""A small causal transformer, made of `Linear`, `Embedding` and `LayerNorm` only."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from whence.errors import InputError


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (b, heads, length, width of a head)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in self.into(x).chunk(3, dim=-1)
        )
        # Written out: the fused kernel for CPUs is no faster at these sizes, and metagradients need a second
        # derivative, which it lacks.
        likeness = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        later = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool, device=x.device).triu(1)
        mixed = likeness.masked_fill(later, -math.inf).softmax(-1) @ v
        return self.out(mixed.transpose(-2, -3).flatten(-2))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = _Attention(width, heads)
        self.before_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before_attention(x))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class GPT(nn.Module):
    """See `gpt`."""

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # what is added to the residual stream is made smaller the more layers add to it
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if last else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[-1], device=tokens.device)
        x = self.token(tokens) + self.position(places[None])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def gpt(vocabulary: int, length: int, width: int = 64, depth: int = 2, heads: int = 4) -> nn.Module:
    """A causal transformer in the manner of GPT-2 (Radford et al. 2019): tokens (b, l) to logits (b, l,
    vocabulary) of the token that comes next, l at most `length`.

    Layer norm comes first, positions are learnt, the input and output embeddings are two matrices and there
    is no dropout, so that gradients of every layer are taken layer by layer. Parameters: 2 width vocabulary +
    length width + about 12 width^2 depth.

    Parameters
    ----------
    width : of the residual stream, a multiple of `heads`
    """
    if min(vocabulary, length, width, depth, heads) < 1 or width % heads:
        raise InputError(
            f"vocabulary={vocabulary}, length={length}, width={width}, depth={depth} and heads={heads} must "
            "be at least 1, and width a multiple of heads."
        )
    return GPT(vocabulary, length, width, depth, heads)
