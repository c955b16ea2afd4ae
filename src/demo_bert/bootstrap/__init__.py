"""The virtual environment of a checkout: made at the first call that needs it, then used.

The standard library alone. `environment` decides what has to be done and does it once, `interpreter`
finds what the Python at hand has already, `requirements` reads the pins, `installer` runs pip and
shows how far it is, `download_size` asks the index how much there is to fetch, `lines` shows all of it.
"""

from demo_bert.bootstrap.environment import ensure

__all__ = ["ensure"]
