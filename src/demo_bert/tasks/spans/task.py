"""Answering questions from passages: one task for SQuAD 1.1 and 2.0. Standard library at import.

Shapes: T tokens of a batch, B rows of it, S longest row, W windows, N starts and ends kept of each.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from demo_bert.data.tables import file_facts
from demo_bert.errors import NetworkError, UnreachableError, UsageError
from demo_bert.hub.sources import HubSource
from demo_bert.tasks.spans.answers import NUM_BEST, Answer, Candidate, WindowLogits, answer_of
from demo_bert.tasks.spans.data_files import read_span_data
from demo_bert.tasks.spans.questions import Question
from demo_bert.tasks.spans.scores import scores_v1, scores_v2
from demo_bert.tasks.spans.shown import shown_questions
from demo_bert.tasks.task import DataRequest, Recipe, Scores, TaskData

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from demo_bert.data.array_cache import ArrayCache
    from demo_bert.data.packing import Batch, Example
    from demo_bert.data.windows import Windows
    from demo_bert.model.bert import BertConfig

SAMPLE = Path(__file__).with_name("sample")
LICENCE = "CC BY-SA 4.0"
_THRESHOLD = 0.0  # the published one

_NOWHERE = -1e30  # the logit of a place without a token; finite, so that gradients are
_SCORED_BYTES = 7500  # of a question: its part of nbest.json, alone and in the whole
_PLACES_OF_BEST = 3  # of a row's outputs: loss, start and end logit of [CLS], then the best


@dataclass(frozen=True)
class SpanTask:
    """An answer, cut out of a passage, for each question.

    Attributes:
        name: As `-t` gives it.
        recipe: Settings where the user gives none.
        is_v2: Whether questions may have no answer.
        hub: Where the data is fetched.
        head: A part of the text.
    """

    name: str
    recipe: Recipe
    is_v2: bool
    hub: HubSource
    head: Literal["classifier", "span"] = "span"

    @property
    def threshold(self) -> float | None:
        """Odds of no answer above which the answer is none; None: there is always one."""
        return _THRESHOLD if self.is_v2 else None

    def load(self, request: DataRequest, announce: Callable[[str], None]) -> TaskData:
        """See `Task.load`: the named paths, else the hub or its cache, else the embedded sample."""
        if request.columns:
            raise UsageError(
                f"--columns: {self.name} reads id, question, context and answers by these names;"
                " leave it out"
            )
        if request.sample:
            return self._sample(request, announce, reason="--sample was given")
        if request.paths:
            named = ", ".join(map(str, request.paths))
            return self._read(request, name=named, source=named)
        from demo_bert.hub import fetch

        try:
            directory = fetch(self.hub, announce=announce)
        except UnreachableError as error:
            if request.sample is False:
                raise NetworkError(
                    f"{self.name} could not be fetched ({error}) and --no-sample was given; give"
                    " --dataset-path DIR"
                ) from error
            reason = f"{self.name} could not be fetched ({error})"
            return self._sample(request, announce, reason=reason)
        found = replace(request, paths=(directory,))
        return self._read(found, name=f"SQuAD {2.0 if self.is_v2 else 1.1}", source=str(self.hub))

    def features(
        self,
        examples: Sequence[Question],
        *,
        labels: Sequence[str],
        tokenizer: "Tokenizer",
        max_seq_length: int,
        cache: "ArrayCache | None" = None,
    ) -> "Windows":
        """See `Task.features`: a row for each window of a question's passage."""
        del labels
        from demo_bert.data.windows import Asked, Windows, WindowShape, make_windows, windows_key

        passages: dict[str, int] = {}
        asked = [
            Asked(
                f"question {one.id!r}",
                one.question,
                passages.setdefault(one.context, len(passages)),
                one.start,
                one.end,
            )
            for one in examples
        ]
        texts, shape = list(passages), WindowShape(max_seq_length)

        def make() -> "Mapping[str, np.ndarray]":
            return make_windows(texts, asked, tokenizer=tokenizer, shape=shape)

        if cache is None:
            return Windows(make())
        key = windows_key(texts, asked, tokenizer=tokenizer, shape=shape)
        return Windows(cache.get(key, make)[0])

    def is_labelled(self, example: Question) -> bool:
        """See `Task.is_labelled`."""
        return example.is_labelled

    def make_model(self, config: "BertConfig", labels: Sequence[str]) -> "nn.Module":
        """See `Task.make_model`."""
        del labels
        from demo_bert.model.heads import SpanPredictor

        return SpanPredictor(config)

    def loss_sum(self, model: "nn.Module", batch: "Batch") -> "Tensor":
        """See `Task.loss_sum`: the mean of the cross entropies of start and end."""
        from demo_bert.losses import span_losses

        return span_losses(_logits(model, batch), batch.labels).sum()

    def num_outputs(self, labels: Sequence[str]) -> int:
        """See `Task.num_outputs`: what `outputs` lists."""
        del labels
        return _PLACES_OF_BEST + 4 * NUM_BEST

    def outputs(self, model: "nn.Module", batch: "Batch") -> "Tensor":
        """See `Task.outputs`: all that the answers need, in a few hundred bytes for each window.

        Its loss; the logits of [CLS]; places and logits of the best starts, then of the best ends.
        Of equal logits the first place is the better one.
        """
        import torch
        import torch.nn.functional as F

        from demo_bert.losses import span_losses

        logits = _logits(model, batch)  # (B, S, 2)
        loss = span_losses(logits, batch.labels)  # (B,)
        best, places = logits.sort(dim=1, descending=True, stable=True)  # (B, S, 2) each
        best, places = best[:, :NUM_BEST], places[:, :NUM_BEST]  # (B, N, 2)
        spare = (0, 0, 0, NUM_BEST - best.shape[1])
        best = F.pad(best, spare, value=_NOWHERE)
        places = F.pad(places.float(), spare, value=-1.0)
        places = places.masked_fill(best <= _NOWHERE / 2, -1.0)
        parts = [loss[:, None], logits[:, 0]]
        for side in (0, 1):
            parts += [places[:, :, side], best[:, :, side]]
        return torch.cat(parts, dim=1)  # (B, C)

    def flops(self, config: "BertConfig", lengths: Sequence[int], *, num_labels: int) -> int:
        """See `Task.flops`."""
        del num_labels
        from demo_bert.model.flops import span_flops

        return span_flops(config, lengths)

    def scoring_bytes(self, num_examples: int) -> int:
        """See `Task.scoring_bytes`."""
        return _SCORED_BYTES * num_examples

    def answers(
        self, examples: Sequence[Question], *, rows: "Sequence[Example]", logits: "np.ndarray"
    ) -> list[Answer]:
        """The n-best answers.

        Args:
            examples: The questions.
            rows: Their windows, from `features`.
            logits: (W, C), from `outputs`, in the order of the rows.

        Returns:
            An answer for each question.
        """
        return list(self._each_answer(examples, rows=rows, logits=logits))

    def _each_answer(
        self, examples: Sequence[Question], *, rows: "Sequence[Example]", logits: "np.ndarray"
    ) -> Iterator[Answer]:
        windows = cast("Windows", rows)
        for number, one in enumerate(examples):
            place = windows.of_question(number)
            first, count = windows.parts(place)
            told = _window_logits(
                logits[place], first=first, count=count, shift=windows.shift(number)
            )
            offsets = windows.offsets(place)
            yield answer_of(told, one.context, offsets=offsets, may_be_none=self.is_v2)

    def score(
        self,
        examples: Sequence[Question],
        *,
        rows: "Sequence[Example]",
        labels: Sequence[str],
        logits: "np.ndarray",
    ) -> Scores:
        """See `Task.score`; for 2.0 the best thresholds are those of the best texts.

        predictions.json has no answer where the odds of none exceed 0.0.
        """
        del labels
        chosen: list[Candidate] = []
        texts: dict[str, str] = {}
        odds: dict[str, float] = {}
        n_best: list[str] = []
        # The 20 candidates of one question at a time: those of all of SQuAD would be 100 MB.
        answers = self._each_answer(examples, rows=rows, logits=logits)
        for one, answer in zip(examples, answers, strict=True):
            chosen.append(answer.chosen(threshold=self.threshold))
            texts[one.id] = answer.text.text
            odds[one.id] = answer.null_odds
            n_best.append((",\n" if n_best else "{") + _n_best_json(one.id, answer))
        predictions = {one.id: each.text for one, each in zip(examples, chosen, strict=True)}
        files = {
            "predictions.json": json.dumps(predictions) + "\n",
            "nbest.json": "".join([*(n_best or ["{"]), "}\n"]),
        }
        del n_best
        if self.is_v2:
            files["null_odds.json"] = json.dumps(odds) + "\n"
        if not all(one.is_labelled for one in examples):
            return Scores({}, 0.0, {}, files)
        gold = {one.id: one.answers for one in examples}
        if self.is_v2:
            best = scores_v2(gold, texts, null_odds=odds)
            metrics = scores_v2(gold, predictions)
            metrics |= {name: best[name] for name in best if name.startswith("best_")}
        else:
            metrics = scores_v1(gold, predictions)
        event = {"questions": shown_questions(examples, chosen)}
        return Scores(metrics, float(logits[:, 0].mean()), event, files)

    def headline(self, metrics: Mapping[str, float]) -> str:
        """See `Task.headline`."""
        exact = metrics.get("exact_match", metrics.get("exact", 0.0))
        return f"exact match {exact:.2f}, F1 {metrics.get('f1', 0.0):.2f}"

    def _read(self, request: DataRequest, *, name: str, source: str) -> TaskData:
        training = request.labels is None
        data = read_span_data(request.paths, is_v2=self.is_v2, training=training)
        return TaskData(
            name=name,
            splits=data.splits,
            labels=(),
            source=source,
            licence=LICENCE,
            files=file_facts(data.files),
            notes=data.notes,
        )

    def _sample(
        self, request: DataRequest, announce: Callable[[str], None], *, reason: str
    ) -> TaskData:
        announce(
            f"{reason}: training and scoring on the embedded SAMPLE, a few hundred questions of"
            f" SQuAD; its scores are not {self.name} scores"
        )
        data = self._read(
            replace(request, paths=(SAMPLE,)), name=f"{self.name} sample", source="embedded"
        )
        return replace(data, is_sample=True)


def _logits(model: "nn.Module", batch: "Batch") -> "Tensor":
    """(B, S, 2), start and end; very negative where a row has no token."""
    from demo_bert.data.packing import unpack

    flat = model(
        batch.input_ids,
        batch.position_ids,
        batch.token_type_ids,
        batch.cu_seqlens,
        batch.max_seqlen,
    )  # (T, 2)
    return unpack(flat, batch, fill=_NOWHERE)


def _window_logits(
    outputs: "np.ndarray", *, first: "np.ndarray", count: "np.ndarray", shift: int
) -> WindowLogits:
    """What `SpanTask.outputs` laid side by side."""
    bounds = [_PLACES_OF_BEST + NUM_BEST * part for part in range(5)]
    starts, start_logits, ends, end_logits = (
        outputs[:, bounds[part] : bounds[part + 1]] for part in range(4)
    )
    return WindowLogits(
        first=first,
        count=count,
        shift=shift,
        null=outputs[:, 1:3],
        starts=starts.astype(int),
        start_logits=start_logits,
        ends=ends.astype(int),
        end_logits=end_logits,
    )


def _n_best_json(name: str, answer: Answer) -> str:
    """A question in the official layout: id -> candidates, the best first."""
    candidates = [
        {
            "text": each.text,
            "probability": each.probability,
            "start_logit": each.start_logit,
            "end_logit": each.end_logit,
        }
        for each in answer.best
    ]
    return f"{json.dumps(name)}: {json.dumps(candidates)}"
