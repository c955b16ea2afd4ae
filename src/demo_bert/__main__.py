"""``python -m demo_bert`` is the program ``demo_bert``."""

from demo_bert.cli import run

if __name__ == "__main__":
    run()
