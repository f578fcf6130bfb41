"""A kernel as a notebook has one: code is run in it, and a page's widgets send it their changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel


class Kernel:
    """A running kernel."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client

    def run(self, code: str) -> str:
        """Run some code and return what it printed; it must not fail."""
        printed: list[str] = []
        reply = self.client.execute_interactive(
            code, timeout=300, output_hook=lambda message: printed.append(message["content"].get("text", ""))
        )
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
        return "".join(printed)

    def change(self, model: str, **state: Any) -> None:
        """Tell a widget what a page tells it when its reader has moved it."""
        content = {"comm_id": model, "data": {"method": "update", "state": state, "buffer_paths": []}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))


@contextmanager
def running_kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel of its own, in a folder."""
    manager, client = start_new_kernel(cwd=str(folder))
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
