"""JSON files that hold one object, read strictly."""

import json
from pathlib import Path

from demo_bert.errors import DataError, ModelError
from demo_bert.files import read_text


def read_json_object(path: Path) -> dict[str, object]:
    """The object in a JSON file of a model.

    Args:
        path: The file.

    Returns:
        Its keys and values.

    Raises:
        ModelError: The file is missing, is not UTF-8, is not JSON, or holds no object.
    """
    try:
        content: object = json.loads(read_text(path))
    except DataError as error:
        raise ModelError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a JSON object is needed")
    return content
