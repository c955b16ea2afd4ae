"""The commands: one file each, and its line here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Its module has `run(settings, origins, argv) -> int`: what `settings.resolve` gave for it, and
    the arguments of the program; the result is the exit code.
    """

    help: str
    """What it does, in a few words."""
    module: str
    """The module, imported when the command runs."""
    is_delivered: bool
    """Whether it is there yet."""
    group: str
    """The heading that the help lists it under."""
    examples: tuple[str, ...]
    """Command lines for its help."""


COMMANDS: dict[str, Command] = {
    "finetuning": Command(
        help="fine-tune BERT on a task or on your own files",
        module="demo_bert.commands.finetuning",
        is_delivered=True,
        group="Train",
        examples=(
            "demo_bert finetuning -d bf16 -m minilm -t mrpc",
            "demo_bert finetuning -d bf16 -m base -t squad -b 32 -s 384",
            "demo_bert finetuning -d fp32 -m base --dataset-path reviews.csv -e 2",
            "demo_bert finetuning -o runs/mine          # goes on where it stopped",
        ),
    ),
    "pretraining": Command(
        help="pre-train BERT: masked LM and next sentence prediction",
        module="demo_bert.commands.pretraining",
        is_delivered=True,
        group="Train",
        examples=(
            "demo_bert pretraining -d bf16 -m large -b 64 8 -v",
            "demo_bert pretraining -d bf16 -m tiny -t overfit",
        ),
    ),
    "pipeline": Command(
        help="raw text to score: prepare, pre-train, fine-tune, evaluate",
        module="demo_bert.commands.pipeline",
        is_delivered=True,
        group="Train",
        examples=("demo_bert pipeline -d bf16 -m tiny -t mrpc --text novels",),
    ),
    "prepare": Command(
        help="Wikipedia, books and other text to a token store",
        module="demo_bert.commands.prepare",
        is_delivered=True,
        group="Train",
        examples=(
            "demo_bert prepare --wikipedia enwiki.xml.bz2 --books novels -o store",
            "demo_bert prepare inspect store",
        ),
    ),
    "evaluate": Command(
        help="score a saved model",
        module="demo_bert.commands.evaluate",
        is_delivered=True,
        group="Use",
        examples=(
            "demo_bert evaluate runs/mine -t mrpc",
            "demo_bert evaluate runs/mine --dataset-path held_out.tsv",
        ),
    ),
    "predict": Command(
        help="answer one input or a file",
        module="demo_bert.commands.predict",
        is_delivered=True,
        group="Use",
        examples=(
            'demo_bert predict runs/mine --text "It rains." --text-b "It is wet."',
            "demo_bert predict runs/mine --input pairs.tsv -o answers.tsv",
            'demo_bert predict runs/squad --question "Where?" --context-file passage.txt',
        ),
    ),
    "report": Command(
        help="page of a run, comparison of several",
        module="demo_bert.commands.report",
        is_delivered=True,
        group="Use",
        examples=("demo_bert report runs/mine runs/other",),
    ),
    "serve": Command(
        help="web page and HTTP API",
        module="demo_bert.commands.serve",
        is_delivered=False,
        group="Use",
        examples=("demo_bert serve runs/mine --port 8000",),
    ),
    "export": Command(
        help="Hugging Face directory and ONNX",
        module="demo_bert.commands.export",
        is_delivered=False,
        group="Use",
        examples=("demo_bert export runs/mine -o exported --format onnx",),
    ),
    "bench": Command(
        help="throughput and utilisation on this machine",
        module="demo_bert.commands.bench",
        is_delivered=True,
        group="Look",
        examples=(
            "demo_bert bench -m base -t mrpc",
            "demo_bert bench -m base -t all --against huggingface",
        ),
    ),
    "plan": Command(
        help="forecast of a training command: time, memory, disk",
        module="demo_bert.commands.plan",
        is_delivered=True,
        group="Look",
        examples=(
            "demo_bert plan finetuning -d bf16 -m base -t mrpc -b 32",
            "demo_bert plan pretraining -d bf16 -m base -v 8",
        ),
    ),
    "doctor": Command(
        help="check of this machine and of every host",
        module="demo_bert.commands.doctor",
        is_delivered=True,
        group="Look",
        examples=("demo_bert doctor", "demo_bert doctor --setup-hosts"),
    ),
}
"""Command -> its line, in the order of the help."""
