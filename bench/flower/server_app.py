"""The server's app, with a curious operator: one line around the strategy, and every update of a client stays here."""

from collections.abc import Callable, Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from bench.flower import task
from gilib.interop.flower import Auditing


def watched(strategy: Strategy, nodes: Iterable[int]) -> list[Auditing]:
    """Watchers, one a client, each around the one before; the last of them is the strategy to run."""
    watchers = []
    for node in nodes:
        strategy = Auditing(strategy, node=node)
        watchers.append(strategy)
    return watchers


def server_app(
    strategy: Strategy,
    config: Mapping[str, str | int | float | bool],
    rounds: int,
    look: Callable[[int, ArrayRecord], None] = lambda number, arrays: None,
) -> ServerApp:
    """An app that trains the federation's network for so many rounds; ``look`` sees the network before and after."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        model = task.network(str(config["network"]), trained=bool(config["trained"]))
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model.state_dict()),
            train_config=ConfigRecord(dict(config)),
            num_rounds=rounds,
            evaluate_fn=look,
        )

    return app
