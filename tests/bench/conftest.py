"""What the tests of the benchmark share: threads as they were, and the peer library where it is installed."""

import os
from collections.abc import Iterator

import pytest
import torch

from bench import peer


@pytest.fixture(autouse=True, scope="module")
def threads() -> Iterator[None]:
    """The scripts choose one thread; what runs after them gets its own number back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def breaching() -> None:
    """Skip without the peer library, or fail where GILIB_REQUIRE_PEER is 1."""
    if not peer.installed():
        message = "breaching is not installed here: make bench-tests runs this in .venv-bench"
        if os.environ.get("GILIB_REQUIRE_PEER") == "1":
            pytest.fail(message)
        pytest.skip(message)
