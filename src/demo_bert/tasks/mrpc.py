"""MRPC: do two sentences say the same? (Microsoft Research Paraphrase Corpus, GLUE's split).

    ./demo_bert finetuning -d bf16 -m base -t mrpc -b 32 -s 128 -v

5 801 pairs of news sentences: 3 668 to train on, 408 to validate; two thirds are paraphrases, so
that always saying yes has accuracy 0.684. Scores by model are in the README. Standard library alone
at import.

Source:
    Dolan and Brockett 2005; the split is GLUE's (Wang et al. 2018).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from demo_bert.data.tables import file_facts
from demo_bert.errors import NetworkError, UnreachableError
from demo_bert.hub.sources import HubFile, HubSource
from demo_bert.tasks.classification import ClassificationTask, has_pairs
from demo_bert.tasks.mrpc_files import LABELS, find_splits, read_found
from demo_bert.tasks.task import DataRequest, Recipe, TaskData

STANDIN = Path(__file__).with_name("standin")
SOURCE = HubSource(
    repo_id="nyu-mll/glue",
    repo_type="dataset",
    revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    licence="Microsoft Research data licence (research use)",
    files=(
        HubFile(
            "mrpc/train-00000-of-00001.parquet",
            sha256="61fd41301e0e244b0420c4350a170c8e7cf64740335fc875a4af2d79af0df0af",
            size_bytes=649281,
        ),
        HubFile(
            "mrpc/validation-00000-of-00001.parquet",
            sha256="33c007dbf5bfa8463d87a13e6226df8c0fcf2596c2cd39d0f3bb79754e00f50f",
            size_bytes=75678,
        ),
    ),
)
"""GLUE's copy on the hub; where the pins come from is in docs/pins.md."""

_LICENCE = "Microsoft Research data licence: research use, not for redistribution"


def load_mrpc(request: DataRequest, announce: Callable[[str], None]) -> TaskData:
    """MRPC from the named paths, else from the hub or its cache, else the stand-in.

    Args:
        request: What the user said.
        announce: Told what is fetched, and that the stand-in stands in.

    Returns:
        The data.

    Raises:
        DataError: A file is missing, damaged or of another form.
        NetworkError: The hub answered with an error; or nobody answered and the stand-in is
            forbidden.
    """
    if request.sample:
        return _standin(request, announce, reason="--sample was given")
    if request.paths:
        data = _read(request, name="MRPC", source=", ".join(map(str, request.paths)))
        return replace(data, name=", ".join(map(str, request.paths)))
    from demo_bert.hub import fetch

    try:
        directory = fetch(SOURCE, announce=announce)
    except UnreachableError as error:
        if request.sample is False:
            raise NetworkError(
                f"MRPC could not be fetched ({error}) and --no-sample was given; give"
                " --dataset-path DIR"
            ) from error
        return _standin(request, announce, reason=f"MRPC could not be fetched ({error})")
    found = replace(request, paths=(directory,))
    return _read(found, name="MRPC", source=f"{SOURCE.repo_id} at {SOURCE.revision}")


def _standin(request: DataRequest, announce: Callable[[str], None], *, reason: str) -> TaskData:
    announce(
        f"{reason}: training and scoring on the embedded STAND-IN, sentence pairs made by a script;"
        " its scores are not MRPC scores"
    )
    stand_in = replace(request, paths=(STANDIN,), columns={})
    data = _read(stand_in, name="MRPC stand-in (embedded sample)", source="embedded")
    return replace(data, is_sample=True, licence="CC0-1.0")


def _read(request: DataRequest, *, name: str, source: str) -> TaskData:
    found = find_splits(request.paths, training=request.labels is None)
    splits = read_found(found, columns=request.columns)
    return TaskData(
        name=name,
        splits=splits,
        is_pair=has_pairs(splits),
        labels=LABELS,
        source=source,
        licence=_LICENCE,
        files=file_facts(found.paths),
        notes=(found.note,),
    )


TASK = ClassificationTask(
    name="mrpc",
    recipe=Recipe(
        batch_size={"bf16": 64, "fp32": 32},
        max_seq_length=128,
        epochs=3.0,
        learning_rate=2e-5,
        source="Devlin et al. 2019, appendix A.3 (2e-5, 32, 3 epochs); rates for smaller models"
        " from Turc et al. 2019 and docs/recipes.md",
    ),
    loader=load_mrpc,
    hub=SOURCE,
)
