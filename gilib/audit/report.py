"""What an audit says in the end: one verdict, what it rests on, and what it does not mean."""

import platform
from dataclasses import dataclass
from importlib.resources import files
from textwrap import wrap
from typing import Any, Literal

import torch

import gilib
from gilib.audit.adaptation import adaptation_of
from gilib.audit.finding import Finding, looked
from gilib.audit.judge import Judge
from gilib.audit.preflight import DECLARED
from gilib.audit.settings import KNOWN, Settings
from gilib.audit.target import Target
from gilib.defenses.privacy import DPSGD, gaussian_epsilon
from gilib.studies import describe

DELTA = 1e-5
WIDTH = 80
INDENT = len("no answer") + 2
THE_CONTROL = "The control, the same client without defenses and before training,"
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
        return self._recovered_by(looked(self.findings, adapted=False))

    def _recovered_by(self, kinds: set[str]) -> bool:
        return any(one.level == "leak" and one.kind in kinds for one in self.control)

    @property
    def verdict(self) -> Verdict:
        """Images, something less or nothing; no answer where attacks were too weak, unadapted or misinformed."""
        levels = {one.level for one in self.findings}
        if "leak" in levels:
            return "images leak"
        if "partial" in levels:
            return "partial leak"
        return "nothing found" if self._strong else "no answer"

    @property
    def _strong(self) -> bool:
        """Whether a failure of the attacks says something: adapted ones recover the control, and all has been tried."""
        recovered = self._recovered_by(looked(self.findings, adapted=True))
        return recovered and not self.misdeclared and not self.interrupted

    @property
    def exit_code(self) -> int:
        """0 nothing found, 1 partial, 2 images leak, 3 no answer; 130 where it was interrupted."""
        return 130 if self.interrupted else CODES[self.verdict]

    @property
    def unadapted(self) -> tuple[str, ...]:
        """Defenses of the client to which no attack was adapted."""
        return adaptation_of(self.target.client.defenses, self.target.updates[0]).missing

    @property
    def misdeclared(self) -> bool:
        """Whether a received update is not what the client as declared sends for these images."""
        return any(one.check == DECLARED and one.level == "no answer" for one in self.findings)

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
                f"No attack here is adapted to {', '.join(self.unadapted)}, so that what it protects is not measured: "
                "an attacker who knows it may do better."
            )
        if self.guarantee:
            said.append(f"The client's noise promises {self.guarantee}.")
        if not Judge(self.target, self.settings).names_count:
            said.append(
                f"Among {len(self.target.crowd)} images even the right name of everybody may be luck, so that names do "
                "not count. Give more images."
            )
        if self.selected:
            said.append(
                f"The search {self.selected!r} was chosen, without a look at any true image, because its two starts "
                "agreed best, or about as well as others and its images' update was nearer to the one sent."
            )
        if self.verdict == "partial leak" and not self._strong:
            said.append(f"That no image came back says nothing. {self._why_not()}")
        counted = self.settings.iterations
        spent = f"for {self.seconds:.0f} seconds" if counted is None else f"up to {counted} iterations each,"
        said.append(
            f"The server was supposed to know {KNOWN[self.settings.threat]} (threat model {self.settings.threat}). "
            "It followed the protocol: an active server was not tried. Only attacks of this library were tried, "
            f"{spent} on {self.target.victims} clients; a better attack, more time or another client may give more "
            "away, never less."
        )
        return said

    def _why(self) -> str:
        if self.verdict == "images leak":
            return self._what_came_back()
        if self.verdict == "partial leak":
            return "No image was recovered, but labels, features or some names were read off the updates."
        if self.verdict == "nothing found":
            return f"{THE_CONTROL} was recovered by the same attacks; this client was not. That is no proof."
        return self._why_not()

    def _what_came_back(self) -> str:
        """That images were recovered; or, where none is so clear, how many could be told from all others."""
        leaks = [one.numbers for one in self.findings if one.level == "leak"]
        if any(max(numbers["psnr"]) >= self.settings.recovered for numbers in leaks):
            return "Images of the victims came back. Everything beyond them needs no more proof."
        told = max((numbers["named"] for numbers in leaks), key=sum)
        return (
            f"No image is clear enough to count as recovered, but {sum(told)} of {len(told)} could be told from all "
            "other candidates by what came back."
        )

    def _why_not(self) -> str:
        """Why attacks that found no image say nothing; asked only where they do not."""
        if self.misdeclared:
            return "The client as declared does not send such an update, so that the attacks looked for another one."
        if self.interrupted:
            return "It was interrupted before it could tell: this is what was finished."
        if self.control_recovered is False:
            return (
                f"{THE_CONTROL} was not recovered by any attack that could look at this client, so that these attacks "
                "were too weak to audit it. Give them more time, smaller batches, or a client with fewer local steps."
            )
        if self.control_recovered:
            ignored = sorted({name for one in self.findings for name in one.unadapted})
            return (
                f"{THE_CONTROL} was recovered, but only by attacks that take no account of {', '.join(ignored)}. Their "
                "failure on this client says little. Give searches more time, if any here is adapted to it."
            )
        return "The audit could not look: see what was refused, and why."

    def __str__(self) -> str:
        """The findings, those of the control below them, and the verdict with what it means, in 80 columns."""
        lines = [line for one in self.findings for line in _row(one)]
        if self.control:
            lines += ["", "The control: no defenses, before training", ""]
            lines += [line for one in self.control for line in _row(one)]
        lines += ["", f"Verdict: {self.verdict}.{' Interrupted.' if self.interrupted else ''}"]
        lines += [line for sentence in self.meaning() for line in wrap(sentence, WIDTH)]
        return "\n".join(lines)

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
            "misdeclared": self.misdeclared,
            "guess": round(Judge(self.target, self.settings).guess, 2),
            "selected": self.selected,
            "findings": [one.as_json() for one in self.findings],
            "control": [one.as_json() for one in self.control],
            "control_recovered": self.control_recovered,
            "versions": {"gilib": gilib.__version__, "torch": torch.__version__, "python": platform.python_version()},
        }


def _row(one: Finding) -> list[str]:
    """The level and the name of a check, and below it what came back."""
    return [f"{one.level:{INDENT}}{one.check}", *(" " * INDENT + line for line in wrap(one.said, WIDTH - INDENT))]


def schema() -> str:
    """The JSON schema of ``Report.as_json``."""
    return (files("gilib.audit") / "schema.json").read_text(encoding="utf-8")
