"""The client's app: what runs at the hospital, or on the phone."""

from collections.abc import Sequence

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from bench.flower import task


def client_app(mods: Sequence[Mod] = ()) -> ClientApp:
    """An app that trains on its own images, with these modifiers of Flower around it."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config, client = message.content["config"], int(context.node_config["partition-id"])
        batch = task.partition(client, config["images"], config["network"])
        model = task.network(config["network"])  # as an empty frame for the weights that came
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        settings = {name: config[name] for name in ("epochs", "batch_size", "lr")}
        loss = task.train(model, batch, seed=100 * client + config["server-round"], **settings)
        metrics = MetricRecord({"train_loss": loss, "num-examples": len(batch.labels)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    return app
