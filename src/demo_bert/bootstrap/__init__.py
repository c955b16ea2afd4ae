"""The virtual environment of a checkout: made at the first call that needs it, then used.

The standard library alone. A call goes through `environment` (one process at a time; the others
wait), which asks `place` what is left to do, and `making`, which does it: `requirements` reads the
pins, `existing_torch` finds what a vendor's interpreter brings, `installer` runs pip as a `child`,
`download_size` asks the index how much there is to fetch, `lines` shows how far it is.
"""

from demo_bert.bootstrap.environment import ensure

__all__ = ["ensure"]
