"""Files of the public hub: from the cache or fetched, whole, and with the hash that they must have.

What the program names itself is pinned: a commit and the SHA-256 of each file. Where a hash could
not be established beforehand, the first copy's hash is recorded in our cache and holds from then
on. An answer that is not the expected one is an error and never a reason to use something else;
only when nobody answers at all is the error `UnreachableError`.
"""

from demo_bert.hub.fetching import fetch
from demo_bert.hub.naming import resolve_named
from demo_bert.hub.sources import HubFile, HubSource

__all__ = ["HubFile", "HubSource", "fetch", "resolve_named"]
