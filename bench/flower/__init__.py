"""Rounds of a real engine: what a curious server of Flower kept, recorded once for the chapter that attacks it.

``.venv-flower/bin/python -m bench.flower`` runs Flower's own server app, strategies, client app and messages and writes
``kept.npz`` and ``kept.json`` beside this file; ``make interop-tests`` runs them again and compares. `task` is what a
client does, without Flower; `client_app` and `server_app` are the two apps; `here` carries the messages, `stored` reads
the two files and needs no Flower. Flower reports its use to its makers unless told otherwise: here it is told.
"""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
