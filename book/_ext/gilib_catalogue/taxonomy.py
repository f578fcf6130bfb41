"""The words that the catalogue may use, and the rows of its map: the book's taxonomy with its neighbours around it."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "attack": "gets data, labels or properties back",
    "defense": "makes that harder",
    "survey": "orders the work of others",
    "evaluation": "measures or audits the work of others",
    "tool": "a library or a benchmark",
    "background": "what the others stand on",
}
FIELDS = {
    "gradient": "a shared gradient or update, the subject of this book",
    "model": "a trained model",
    "embedding": "served vectors",
    "split": "what is sent in split or collaborative inference",
    "vertical": "vertical federated learning",
    "related": "membership, stealing, extraction, privacy at large",
}
# The first eleven are the cells of the book's own parts; the rest is what surrounds them.
FAMILIES = {
    "iteration": "search for an input with the same gradient",
    "generative": "search through a generator",
    "learned": "a network trained to invert",
    "recursion": "solve, exactly or layer by layer",
    "malicious": "the server changes the model or the protocol",
    "label": "labels only",
    "obscuration": "obscure the data first",
    "model": "change the network or its training",
    "gradient": "noise, compression, perturbation",
    "secure": "sums only: secure aggregation, encryption",
    "detection": "notice an attack",
    "optimization": "search in pixels, without a learned prior",
    "training-based": "a network trained to invert",
    "black-box": "from scores",
    "label-only": "from hard labels",
    "attribute": "a sensitive column of a table",
    "text": "text from a language model",
    "embedding": "the input from its vector",
    "graph": "edges and nodes",
    "extraction": "memorised training data",
    "training": "train another way",
    "output": "change what is answered",
    "privacy": "noise with a guarantee",
    "architecture": "change the network",
    "survey": "surveys",
    "evaluation": "evaluations",
    "tool": "tools",
    "background": "background",
    "related": "neighbouring questions",
}
MODALITIES = ("image", "text", "graph", "tabular", "audio", "time series", "trajectory", "any", "other")
SETTINGS = ("FedSGD", "FedAvg", "both", "vertical", "split", "other")
ACCESS = ("white", "black", "label")
LETTERS = "ABCDEFGH"
METHODS = ("attack", "defense", "background")  # what can be run; surveys, evaluations and tools are cited
AUTHORS_FROM = ("book", "list", "checked", "search", "memory")
ARXIV_FROM = ("book", "list", "checked", "memory")
YEARS = range(2014, 2036)


TITLES = {
    "gradient": "shared gradients",
    "model": "trained models",
    "embedding": "served vectors",
    "split": "split networks",
    "vertical": "vertical learning",
    "related": "neighbouring questions",
}


@dataclass(frozen=True)
class Group:
    """A part of the map: the works of one kind that invert one field, by family; or those of one kind, by field."""

    title: str
    kind: str
    field: str = ""

    @property
    def column(self) -> str:
        """What its cells are told apart by."""
        return "family" if self.field else "field"

    @property
    def order(self) -> tuple[str, ...]:
        """The names of its cells, in the order of the map."""
        return tuple(FAMILIES if self.field else FIELDS)


def _groups() -> tuple[Group, ...]:
    sides = [
        (f"{kind.capitalize()}s: {TITLES[field]}", kind, field) for field in FIELDS for kind in ("attack", "defense")
    ]
    others = [("Surveys", "survey"), ("Evaluations", "evaluation"), ("Tools", "tool"), ("Background", "background")]
    return (*(Group(*side) for side in sides), *(Group(*other) for other in others))


GROUPS = _groups()
