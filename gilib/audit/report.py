"""What an audit says in the end: one verdict, what it rests on, and what it does not mean."""

import platform
from dataclasses import dataclass
from typing import Any, Literal

import torch

import gilib
from gilib.audit.adaptation import adaptation_of
from gilib.audit.finding import Finding
from gilib.audit.judge import Judge
from gilib.audit.settings import KNOWN, Settings
from gilib.audit.target import Target
from gilib.defenses.privacy import DPSGD, gaussian_epsilon
from gilib.studies import describe

DELTA = 1e-5
SCHEMA = "gilib-audit/1"
Verdict = Literal["nothing found", "partial leak", "images leak", "no answer"]
CODES: dict[Verdict, int] = {"nothing found": 0, "partial leak": 1, "images leak": 2, "no answer": 3}


@dataclass(frozen=True)
class Report:
    """The findings on the target and on the control, and the verdict that follows from them.

    ``selected`` is the search that was chosen without a look at the truth.
    """

    target: Target
    settings: Settings
    findings: list[Finding]
    control: list[Finding]
    selected: str
    interrupted: bool
    seconds: float

    @property
    def control_recovered(self) -> bool | None:
        """Whether images of the undefended, untrained client came back; None where it was not tried.

        Only by a check that looked at the audited client as well: another one says nothing about it.
        """
        if all(one.level == "note" for one in self.control):
            return None
        looked = {_kind(one) for one in self.findings if one.level not in ("note", "no answer")}
        return any(one.level == "leak" and _kind(one) in looked for one in self.control)

    @property
    def verdict(self) -> Verdict:
        """Images, something less, nothing, or no answer where the attacks were too weak to say."""
        levels = {one.level for one in self.findings}
        if "leak" in levels:
            return "images leak"
        if "partial" in levels:
            return "partial leak"
        return "nothing found" if self.control_recovered and not self.interrupted else "no answer"

    @property
    def exit_code(self) -> int:
        """0 nothing found, 1 partial, 2 images leak, 3 no answer; 130 where it was interrupted."""
        return 130 if self.interrupted else CODES[self.verdict]

    @property
    def unadapted(self) -> tuple[str, ...]:
        """Defenses of the client to which no attack was adapted."""
        return adaptation_of(self.target.client.defenses, self.target.updates[0]).missing

    @property
    def guarantee(self) -> str:
        """What DP-SGD promises in one round, where it is the first defense; empty where there is none."""
        first = next(iter(self.target.client.defenses), None)
        if not isinstance(first, DPSGD) or not first.noise:
            return ""
        epsilon = gaussian_epsilon(first.noise, delta=DELTA)
        return f"epsilon {epsilon:.2g} for one sample in one round, at delta {DELTA:g}; rounds add up"

    def meaning(self) -> list[str]:
        """What the verdict means and does not mean, in plain sentences."""
        said = [self._why()]
        if self.unadapted:
            said.append(
                f"No attack here is adapted to {', '.join(self.unadapted)}, so that its protection is not measured: "
                "an attacker who knows it may do better."
            )
        if self.guarantee:
            said.append(f"The client's noise promises {self.guarantee}.")
        if self.control_recovered is False and self.verdict == "partial leak":
            said.append(
                "The attacks did not recover the undefended, untrained client either. That no image came back says "
                "nothing."
            )
        said.append(
            f"The server was supposed to know {KNOWN[self.settings.threat]} (threat model {self.settings.threat}). "
            "It followed the protocol: an active server was not tried. Only attacks of this library were tried, "
            f"for {self.seconds:.0f} seconds on {self.target.victims} clients; a better attack, more time or another "
            "client may give more away, never less."
        )
        return said

    def _why(self) -> str:
        control = "The control, the same client without defenses and before training, "
        return {
            "images leak": "Images of the victims came back. Everything beyond them needs no more proof.",
            "partial leak": "No image was recovered, but labels, features or some names were read off the updates.",
            "nothing found": f"{control}was recovered by the same attacks; this client was not. That is no proof.",
            "no answer": (
                f"{control}was not recovered by any attack that could look at this client, so that these attacks were "
                "too weak to audit it. Give them more time (seconds), smaller batches, or a client with fewer local "
                "steps, and try again."
                if self.control_recovered is False
                else "The audit could not look: see what was refused, and why."
            ),
        }[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """Everything but images; `SCHEMA` names the form."""
        client = self.target.client
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "meaning": self.meaning(),
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 1),
            "settings": describe(self.settings),
            "client": {
                "model": type(client.model).__name__,
                "parameters": sum(value.numel() for value in self.target.model.parameters()),
                "local": str(client.local),
                "loss": getattr(client.loss, "__name__", type(client.loss).__name__),
                "mode": client.mode,
                "defenses": [{"name": one.name, "public": str(dict(one.public))} for one in client.defenses],
                "unadapted": list(self.unadapted),
                "guarantee": self.guarantee,
            },
            "batch": self.target.batch,
            "victims": self.target.victims,
            "candidates": len(self.target.crowd),
            "guess": round(Judge(self.target, self.settings).guess, 2),
            "selected": self.selected,
            "findings": [one.as_json() for one in self.findings],
            "control": [one.as_json() for one in self.control],
            "control_recovered": self.control_recovered,
            "versions": {"gilib": gilib.__version__, "torch": torch.__version__, "python": platform.python_version()},
        }

    def table(self) -> str:
        """The findings as aligned text, the control's below, and the verdict."""
        rows = [(one.level, one.check, one.said) for one in self.findings]
        rows += [(one.level, f"control: {one.check}", one.said) for one in self.control]
        widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        lines = [f"{level:{widths[0]}}  {check:{widths[1]}}  {text}" for level, check, text in rows]
        return "\n".join([*lines, "", f"Verdict: {self.verdict}.", *self.meaning()])

    __str__ = table


def _kind(finding: Finding) -> str:
    """The check, whether it ran for a short time or for the rest."""
    return finding.check.removeprefix("chosen ")
