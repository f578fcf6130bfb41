"""Secure aggregation: a server learns the sum of its clients' updates and, if all keep to the protocol, nothing else.

Three protocols, each a class for the client and one for the server. *Masking* (SecAgg) hides updates under masks that
cancel, and shares the seeds of the masks. *FastSecAgg* shares the updates themselves. *LightSecAgg* hides each update
under one mask, shares the masks, and takes off their sum. They differ in what is shared; the sharing is always that of
`gilib.defenses.secret_sharing`. A round is a protocol among many, and therefore no ``Defense`` of a single client.

Teaching code, not an audited implementation: nothing here claims to run in constant time.

Known as: secure aggregation (defense). Needs other clients, of whom enough stay to the end. Taught in:
defenses/secure_aggregation.
"""

from gilib.defenses.secure_aggregation.masking import MaskingMember, MaskingServer
from gilib.defenses.secure_aggregation.rounds import PROTOCOLS, Protocol, Round, aggregate
from gilib.defenses.secure_aggregation.shares import FastMember, FastServer, LightMember, LightServer

__all__ = [
    "PROTOCOLS",
    "FastMember",
    "FastServer",
    "LightMember",
    "LightServer",
    "MaskingMember",
    "MaskingServer",
    "Protocol",
    "Round",
    "aggregate",
]
