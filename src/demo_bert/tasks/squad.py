"""SQuAD 1.1, the Stanford Question Answering Dataset: where in the passage is the answer?

    ./demo_bert finetuning -d bf16 -m base -t squad -b 32 -s 384

100 000 questions on passages of Wikipedia: 87 599 to train on, 10 570 to validate. Scores are exact
match and F1 in 0..100; the published BERT-base has 80.8 and 88.5. Standard library alone at import.

Source:
    Rajpurkar et al. 2016; Devlin et al. 2019 (the recipe, the published scores).
"""

from demo_bert.hub.sources import HubFile, HubSource
from demo_bert.tasks.spans.task import SpanTask
from demo_bert.tasks.task import Recipe

SOURCE = HubSource(
    repo_id="rajpurkar/squad",
    repo_type="dataset",
    revision="7b6d24c440a36b6815f21b70d25016731768db1f",
    licence="CC BY-SA 4.0",
    files=(
        HubFile("plain_text/train-00000-of-00001.parquet"),
        HubFile("plain_text/validation-00000-of-00001.parquet"),
    ),
)
"""The hub's copy; where the pins come from is in docs/pins.md."""

RECIPE = Recipe(
    batch_size={"bf16": 24, "fp32": 10},
    max_seq_length=384,
    epochs=2.0,
    learning_rate=3e-5,
    source="Devlin et al. 2019, section 4.2, and the published run_squad.py (3e-5, 2 epochs,"
    " length 384, stride 128, questions of 64, clipping at 1.0); rates for smaller models from"
    " Turc et al. 2019",
)

TASK = SpanTask(name="squad", recipe=RECIPE, is_v2=False, hub=SOURCE)
