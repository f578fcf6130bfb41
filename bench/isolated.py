"""Call a function in a process of its own: memory starts from the same point, and what hangs can be stopped."""

import multiprocessing
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class FailedError(RuntimeError):
    """The function raised, was killed or took too long."""


def isolated(function: Callable[..., Any], *arguments: Any, seconds: int | None = None) -> Any:
    """What ``function(*arguments)`` returns in a fresh process.

    The function must be importable by name. Raises FailedError with one line that says why where it raised, where the
    process died, and where it took more than ``seconds`` of processor time.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments, seconds))
    process.start()
    sender.close()
    try:
        error, value = receiver.recv()
    except EOFError as end:
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            raise FailedError(f"not done in {seconds} processor seconds") from end
        raise FailedError(f"the process died with exit code {process.exitcode}; was there enough memory?") from end
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise FailedError(error)
    return value


def here(function: Callable[..., Any], *arguments: Any, seconds: int | None = None) -> Any:
    """The same in this process and without a limit, for a quick look. Raises FailedError where it raised."""
    try:
        return function(*arguments)
    except Exception as error:
        raise FailedError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], seconds: int | None) -> None:
    if seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 60))
    try:
        sender.send((None, function(*arguments)))
    except Exception as error:
        sender.send((one_line(error), None))
