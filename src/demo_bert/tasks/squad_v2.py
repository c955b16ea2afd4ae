"""SQuAD 2.0: as SQuAD, but half of the questions have no answer in the passage.

    ./demo_bert finetuning -d bf16 -m base -t squad_v2 -b 32 -s 384

130 319 questions to train on, 11 873 to validate; always saying "no answer" has F1 50.07. Metrics
have the names of the official script; predictions are none where the odds of no answer exceed 0.0,
and `best_f1_thresh` is the threshold that would have been best. Standard library alone at import.

Source:
    Rajpurkar et al. 2018; Devlin et al. 2019, section 4.3.
"""

from demo_bert.hub.sources import HubFile, HubSource
from demo_bert.tasks.spans.task import SpanTask
from demo_bert.tasks.squad import RECIPE

SOURCE = HubSource(
    repo_id="rajpurkar/squad_v2",
    repo_type="dataset",
    revision="3ffb306f725f7d2ce8394bc1873b24868140c412",
    licence="CC BY-SA 4.0",
    files=(
        HubFile(
            "squad_v2/train-00000-of-00001.parquet",
            sha256="f6da32ffb482ff463ad056477740d1bb284b96a45db3a08bee6a225ca6abf291",
            size_bytes=16369982,
        ),
        HubFile("squad_v2/validation-00000-of-00001.parquet"),
    ),
)
"""The hub's copy; where the pins come from is in docs/pins.md."""

TASK = SpanTask(name="squad_v2", recipe=RECIPE, is_v2=True, hub=SOURCE)
