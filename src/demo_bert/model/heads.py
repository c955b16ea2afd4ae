"""Whole models: the encoder with the head of a task; logits only where a label asks.

Shapes: T tokens of the micro-batch, B examples, M masked tokens, H hidden size, V vocabulary,
C classes. All logits are float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_bert.losses import classification_loss
from demo_bert.model.bert import Bert, BertConfig, first_tokens
from demo_bert.model.linear import Linear, rounded_linear
from demo_bert.model.word_loss import word_loss


class SequenceClassifier(nn.Module):
    """One label for each example: pooled first token, dropout, linear layer.

    Args:
        config: The encoder's shape.
        num_labels: C.

    Source:
        `run_classifier.py` of the published code.
    """

    def __init__(self, config: BertConfig, num_labels: int) -> None:
        super().__init__()
        self.bert = Bert(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = Linear(config.hidden_size, num_labels)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        token_type_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
    ) -> Tensor:
        """Logits of the examples.

        Args:
            input_ids: As `Bert.forward`, like all arguments.
            position_ids: (T,).
            token_type_ids: (T,).
            cu_seqlens: (B+1,).
            max_seqlen: The longest example in tokens, or more.

        Returns:
            (B, C) float32.
        """
        first = self.bert(
            input_ids,
            position_ids,
            token_type_ids,
            cu_seqlens,
            max_seqlen,
            wanted=first_tokens(cu_seqlens, num_tokens=input_ids.shape[0]),
        )  # (B, H)
        pooled = self.bert.pool(first)  # (B, H)
        return self.classifier(self.dropout(pooled)).float()  # (B, C)


class SpanPredictor(nn.Module):
    """Start and end logits of an answer for each token.

    Args:
        config: The encoder's shape.

    Source:
        `run_squad.py` of the published code.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = Bert(config, with_pooler=False)
        self.span = Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        token_type_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
    ) -> Tensor:
        """Logits of the tokens.

        Args:
            input_ids: As `Bert.forward`, like all arguments.
            position_ids: (T,).
            token_type_ids: (T,).
            cu_seqlens: (B+1,).
            max_seqlen: The longest example in tokens, or more.

        Returns:
            (T, 2) float32: start, end.
        """
        hidden = self.bert(input_ids, position_ids, token_type_ids, cu_seqlens, max_seqlen)
        return self.span(hidden).float()  # (T, 2)


class _MaskedLm(nn.Module):
    """Dense layer, GELU, norm, and the word embeddings as the decoder."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.approximate = "tanh" if config.hidden_act == "gelu_new" else "none"
        self.transform = Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        product = rounded_linear if self.transform.is_rounded else F.linear
        return product(self._states(hidden), embeddings, self.bias)  # (M, V)

    def loss(self, hidden: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        if not hidden.is_cpu:
            return classification_loss(self(hidden, embeddings).float(), labels)
        is_rounded = self.transform.is_rounded
        return word_loss(self._states(hidden), embeddings, self.bias, labels, is_rounded=is_rounded)

    def _states(self, hidden: Tensor) -> Tensor:
        activated = F.gelu(self.transform(hidden), approximate=self.approximate)
        return self.norm(activated)  # (M, H)


class PreTrainer(nn.Module):
    """Masked LM and next sentence prediction.

    Args:
        config: The encoder's shape.

    Source:
        `run_pretraining.py` of the published code; the decoder is tied to the word embeddings.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = Bert(config)
        self.mlm = _MaskedLm(config)
        self.nsp = Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        token_type_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        masked_tokens: Tensor,
        masked_labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the masked tokens, or their loss, and logits of the pairs.

        Args:
            input_ids: As `Bert.forward`, like the next four.
            position_ids: (T,).
            token_type_ids: (T,).
            cu_seqlens: (B+1,).
            max_seqlen: The longest example in tokens, or more.
            masked_tokens: (M,) int64, places in [0, T) of the tokens to predict.
            masked_labels: (M,) int64, what stands there, or -100 where that does not count.

        Returns:
            (M, V), or with labels the sum of the cross entropy, a scalar; and (B, 2). All are
            float32; of the pairs, class 0 is "is next".
        """
        first = first_tokens(cu_seqlens, num_tokens=input_ids.shape[0])  # (B,)
        wanted = torch.cat([first, masked_tokens])  # (B+M,)
        states = self.bert(
            input_ids, position_ids, token_type_ids, cu_seqlens, max_seqlen, wanted=wanted
        )  # (B+M, H)
        firsts, masked = states.split([len(first), len(masked_tokens)])  # (B, H), (M, H)
        embeddings = self.bert.embeddings.word.weight  # (V, H)
        if masked_labels is None:
            words = self.mlm(masked, embeddings).float()  # (M, V)
        else:
            words = self.mlm.loss(masked, embeddings, masked_labels)
        pairs = self.nsp(self.bert.pool(firsts)).float()  # (B, 2)
        return words, pairs
