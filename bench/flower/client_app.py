"""The client's app: what runs at the hospital, or on the phone."""

from collections.abc import Sequence

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from bench.flower import task


def client_app(mods: Sequence[Mod] = ()) -> ClientApp:
    """An app that trains on its own images, with modifiers of Flower."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content["config"]
        client = int(context.node_config["partition-id"])
        batch = task.partition(client, config["images"], config["network"])
        model = task.network(config["network"])  # a frame for the weights
        weights = message.content["arrays"]
        model.load_state_dict(weights.to_torch_state_dict())
        settings = {name: config[name] for name in ("epochs", "batch_size", "lr")}
        seed = 100 * client + config["server-round"]
        loss = task.train(model, batch, seed=seed, **settings)
        reported = {"train_loss": loss, "num-examples": len(batch.labels)}
        arrays, metrics = ArrayRecord(model.state_dict()), MetricRecord(reported)
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        return Message(content, reply_to=message)

    return app
