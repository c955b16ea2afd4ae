"""Makes the environment with the tools of ``./check``, and prints its interpreter's path."""

import sys
from pathlib import Path

from demo_bert.bootstrap.environment import ensure_for_development
from demo_bert.errors import DemoBertError

if __name__ == "__main__":
    try:
        python = ensure_for_development(Path(__file__).resolve().parents[3])
    except DemoBertError as error:
        sys.stderr.write(f"demo_bert: error: {error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(f"{python}\n")
