"""The BERT encoder over flat batches.

Shapes: T tokens of the micro-batch, N of them wanted, B examples, H hidden size, A heads,
I intermediate size, L layers, V vocabulary.

Source:
    Devlin et al. 2019 and its published code: post-layer-norm, learned positions, GELU, pooler.
    Deliberate differences: no padded rows (flat tokens with `cu_seqlens`), query, key and value in
    one product.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from demo_bert.errors import ModelError
from demo_bert.model.attention import Sequences, attention, select_path
from demo_bert.model.dropout import dropped
from demo_bert.model.linear import Linear, is_narrow
from demo_bert.model.residual import ResidualNorm


@dataclass(frozen=True)
class BertConfig:
    """A BERT's shape, in BERT's own words.

    Raises:
        ModelError: The numbers do not make a model.
    """

    vocab_size: int = 30522
    """V, entries of the vocabulary."""
    hidden_size: int = 768
    """H."""
    num_hidden_layers: int = 12
    """L."""
    num_attention_heads: int = 12
    """A; divides the hidden size."""
    intermediate_size: int = 3072
    """I, width of the feed-forward layers."""
    hidden_act: Literal["gelu", "gelu_new"] = "gelu"
    """"gelu" is exact (erf), "gelu_new" its tanh form."""
    hidden_dropout_prob: float = 0.1
    """Probability of dropping an activation, 0..1."""
    attention_probs_dropout_prob: float = 0.1
    """Probability of dropping an attention weight, 0..1."""
    max_position_embeddings: int = 512
    """The longest example in tokens."""
    type_vocab_size: int = 2
    """Kinds of segments."""
    initializer_range: float = 0.02
    """Standard deviation of random weights."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in layer norms."""
    pad_token_id: int = 0
    """Id of [PAD]; flat batches hold none."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        problems = [
            f"{name} {getattr(self, name)} is not a whole number of at least 1"
            for name in (
                "vocab_size",
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "max_position_embeddings",
                "type_vocab_size",
            )
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1
        ]
        problems += [
            f"{name} {getattr(self, name)} is not in [0, 1)"
            for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
            if not 0.0 <= getattr(self, name) < 1.0
        ]
        if not problems and self.hidden_size % self.num_attention_heads:
            problems.append(
                f"hidden_size {self.hidden_size} is not divisible by"
                f" num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ("gelu", "gelu_new"):
            problems.append(f"hidden_act {self.hidden_act!r} is neither gelu nor gelu_new")
        if problems:
            raise ModelError("model configuration: " + "; ".join(problems))

    def to_dict(self) -> dict[str, int | float | str]:
        """The configuration as plain values, keys in BERT's own words."""
        return asdict(self)


class _Embeddings(nn.Module):
    """Word, position and segment embeddings, summed and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.hidden_dropout_prob

    def forward(self, input_ids: Tensor, position_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        summed = self.word(input_ids) + self.token_type(token_type_ids)  # (T, H)
        normed = self.norm(summed + self.position(position_ids))  # (T, H)
        if is_narrow(normed):
            normed = normed.bfloat16()  # as all that follows
        return dropped(normed, self.dropout if self.training else 0.0)  # (T, H)


class _Attention(nn.Module):
    """Self-attention with its output projection, residual and norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.weights_dropout = config.attention_probs_dropout_prob
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)
        self.norm = ResidualNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.hidden_dropout_prob

    def forward(self, hidden: Tensor, sequences: Sequences, wanted: Tensor | None) -> Tensor:
        qkv = self.qkv(hidden)  # (T, 3H)
        dropout = self.weights_dropout if self.training else 0.0
        path = select_path(
            qkv.device.type, qkv.dtype, dropout=dropout, needs_grad=qkv.requires_grad
        )
        context = attention(
            qkv, sequences, num_heads=self.num_heads, dropout=dropout, path=path
        )  # (T, H)
        if wanted is not None:
            hidden, context = hidden.index_select(0, wanted), context.index_select(0, wanted)
        return self.finish(hidden, context)

    def finish(self, hidden: Tensor, context: Tensor) -> Tensor:
        """Output projection, residual and norm; apart, so that it can be compiled."""
        dropout = self.dropout if self.training else 0.0
        return self.norm.add(hidden, self.output(context), dropout)  # (T, H) or (N, H)


class _FeedForward(nn.Module):
    """The two wide products with GELU between them, residual and norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.approximate = "tanh" if config.hidden_act == "gelu_new" else "none"
        self.up = Linear(config.hidden_size, config.intermediate_size)
        self.down = Linear(config.intermediate_size, config.hidden_size)
        self.norm = ResidualNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.hidden_dropout_prob

    def forward(self, hidden: Tensor) -> Tensor:
        wide = F.gelu(self.up(hidden), approximate=self.approximate)  # (T, I)
        dropout = self.dropout if self.training else 0.0
        return self.norm.add(hidden, self.down(wide), dropout)  # (T, H)


class _Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.feed_forward = _FeedForward(config)

    def forward(self, hidden: Tensor, sequences: Sequences, wanted: Tensor | None) -> Tensor:
        return self.feed_forward(self.attention(hidden, sequences, wanted))  # (T, H) or (N, H)


class _Pooler(nn.Module):
    """The first token of each example through a dense layer and tanh."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))  # (B, H)


class Bert(nn.Module):
    """The encoder, with its pooler where asked for.

    Args:
        config: The shape.
        with_pooler: Whether `pool` exists.
    """

    def __init__(self, config: BertConfig, with_pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = _Pooler(config) if with_pooler else None
        self.recomputes = False
        """Whether layers keep their input alone and are computed again in the backward pass."""

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        token_type_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of all tokens, or of those that a head reads.

        The last layer needs every token's key and value, but the rest of it only where its output
        is read: with `wanted` three quarters of that layer's products are left out, and the
        states are the same.

        Args:
            input_ids: (T,) int64 in [0, V).
            position_ids: (T,) int64, counted from 0 in each example.
            token_type_ids: (T,) int64, 0 for the first segment and 1 for the second.
            cu_seqlens: (B+1,) int32, the first token of each example, and T.
            max_seqlen: The longest example in tokens, or more.
            wanted: (N,) int64, places in [0, T) of the tokens whose states are read; None for all.

        Returns:
            (T, H), or (N, H) in the order of `wanted`; float32 or the type of the enclosing
            autocast.
        """
        sequences = Sequences(cu_seqlens, max_seqlen, num_tokens=input_ids.shape[0])
        hidden = self.embeddings(input_ids, position_ids, token_type_ids)  # (T, H)
        last = len(self.layers) - 1
        for place, layer in enumerate(self.layers):
            chosen = wanted if place == last else None
            if self.recomputes and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, sequences, chosen, use_reentrant=False)
            else:
                hidden = layer(hidden, sequences, chosen)
        return hidden

    def pool(self, first: Tensor) -> Tensor:
        """One vector for each example.

        Args:
            first: (B, H), the states of the examples' first tokens.

        Returns:
            (B, H).
        """
        if self.pooler is None:
            raise AssertionError("this Bert was made without a pooler")
        return self.pooler(first)  # (B, H)


def recompute_activations(model: nn.Module, does: bool) -> None:
    """Switches every encoder of the model; results are the same to the bit, dropout too.

    Args:
        model: Any module.
        does: Whether layers are computed again in the backward pass.
    """
    for module in model.modules():
        if isinstance(module, Bert):
            module.recomputes = does


def first_tokens(cu_seqlens: Tensor, *, num_tokens: int) -> Tensor:
    """The place of each example's first token.

    Args:
        cu_seqlens: (B+1,) int32; an empty example takes the token that follows it, or the last.
        num_tokens: T.

    Returns:
        (B,) int64 in [0, T).
    """
    return cu_seqlens[:-1].long().clamp(max=num_tokens - 1)


def initialise(model: nn.Module, *, initializer_range: float, seed: int) -> None:
    """Random weights, the same for the same seed on every machine.

    Args:
        model: Any of our models; every parameter is overwritten.
        initializer_range: Standard deviation of weights and embeddings; drawn from a normal
            distribution cut at two standard deviations, as the original does. Biases are 0,
            layer-norm weights 1.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear | nn.Embedding):
            bound = 2.0 * initializer_range
            nn.init.trunc_normal_(
                module.weight, 0.0, initializer_range, -bound, bound, generator=generator
            )
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
