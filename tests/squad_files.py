"""Small SQuAD files, and where the shared ones lie."""

import json
from pathlib import Path
from typing import Any

import pytest


def shared_squad() -> Path:
    """`shared/data/squad` beside a directory above this one; skips where there is none."""
    for directory in Path(__file__).resolve().parents:
        if (directory / "shared" / "data" / "squad").is_dir():
            return directory / "shared" / "data" / "squad"
    pytest.skip("no shared/data/squad beside the checkout")


def qa(
    name: str,
    question: str,
    context: str,
    *answers: str,
    **more: object,
) -> dict[str, Any]:
    """A question in the official layout; its answers stand where they first occur."""
    told = [{"text": text, "answer_start": context.find(text)} for text in answers]
    return {"id": name, "question": question, "answers": told, **more}


def paragraph(context: str, *qas: dict[str, Any]) -> dict[str, Any]:
    return {"context": context, "qas": list(qas)}


def layout(*articles: list[dict[str, Any]], version: str = "1.1") -> dict[str, Any]:
    """Articles of paragraphs in the official layout."""
    data = [
        {"title": f"Article {number}", "paragraphs": paragraphs}
        for number, paragraphs in enumerate(articles, start=1)
    ]
    return {"version": version, "data": data}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="ascii")
    return path
