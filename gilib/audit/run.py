"""The audit: checks in their order, within a budget of time, and a control where nothing came back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from gilib.audit.adaptation import adaptation_of
from gilib.audit.finding import Finding, attempt, looked
from gilib.audit.judge import Judge
from gilib.audit.preflight import DECLARED, declared, preflight
from gilib.audit.reading import count_equations, read_features, read_labels
from gilib.audit.report import Report
from gilib.audit.rounds import Rounds, Until
from gilib.audit.settings import Settings
from gilib.audit.solving import solvers
from gilib.audit.surrogate import MISSING, Generator, learned
from gilib.audit.target import Target

Progress = Callable[[float, str], None]
CONTROL = 0.35
"""The share of the time that is kept for the control."""
LEARNING = 0.15
"""The share of the time in which a server with public images may train its generator."""


def audit(target: Target, settings: Settings | None = None, *, progress: Progress | None = None) -> Report:
    """Try what applies on a target's clients, and report what came back.

    First what costs nothing: can it be looked at at all, labels, features, counts of equations, divisions and exact
    solutions; then, unless every image has come back, searches, each from two starts, adapted to the defenses that the
    client declares. Which search goes on is chosen by its objective and by how well two starts agree, never by a true
    image; those serve the report alone. Where no image leaks, the same attacks run on the same client without defenses
    and before training. Where that control is not recovered, by an attack that could look at the client too, the
    report has no answer, and never says that nothing leaks. ``progress(share, text)`` is called along the way. Ctrl-C
    ends the audit; the report then has what was finished.

    Raises ValueError where the client cannot compute an update of these images, and says why.

    Known as: audit, privacy audit (analysis). Needs the model and a few clients of one's own.
    Taught in: practice/audit.
    """
    settings = settings or Settings()
    work = _Audit(target, settings, progress or (lambda share, text: None))
    try:
        work.run()
    except KeyboardInterrupt:
        work.interrupted = True
    return work.report()


@dataclass
class _Audit:
    target: Target
    settings: Settings
    progress: Progress
    findings: list[Finding] = field(default_factory=list)
    control: list[Finding] = field(default_factory=list)
    selected: str = ""
    generator: Generator | None = None
    interrupted: bool = False
    start: float = field(default_factory=time.perf_counter)

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.start

    def report(self) -> Report:
        return Report(
            self.target, self.settings, self.findings, self.control, self.selected, self.interrupted, self.spent
        )

    def run(self) -> None:
        self.say("computing the victims' updates")
        self.findings.append(preflight(self.target))
        if self.target.sent:
            self._try(self.findings, DECLARED, partial(declared, self.target))
        for name, check in (("labels", read_labels), ("features", read_features), ("equations", count_equations)):
            self._try(self.findings, name, partial(check, self.target))
        self._attacks(self.target, self.findings, until=self._until(1 - CONTROL))
        if any(one.level == "leak" for one in self.findings):
            return
        self.say("the control: no defense, no training")
        try:
            control = self.target.control()
        except ValueError as error:
            self.control.append(Finding("control", "no answer", str(error)))
            return
        self._attacks(control, self.control, until=self._until(1.0))

    def _attacks(self, target: Target, findings: list[Finding], *, until: Until) -> None:
        """All attacks on a target, whose findings are appended as they come.

        The control is done where an image came back by an attack that is adapted to the client's defenses, if any is,
        and leaves out what could not look at the client.
        """
        how = adaptation_of(target.client.defenses, target.updates[0])
        judge, is_control = Judge(target, self.settings), findings is self.control
        blind = {one.check for one in self.findings if one.level == "no answer"} if is_control else set()
        counts = looked((one for one in self.findings if "psnr" in one.numbers), adapted=True)

        def settled(finding: Finding) -> bool:
            return is_control and finding.level == "leak" and (finding.kind in counts or not counts)

        for name, solve in solvers(target).items():
            if name in blind:
                continue
            self._try(findings, name, partial(solve, judge, how, lambda: until.left == 0))
            if settled(findings[-1]) or (not is_control and judge.complete(findings[-1])):
                return
        if self.settings.surrogate and not is_control:
            self._try(findings, "generator", self._learn)
        self.say("labels for the searches")
        rounds = Rounds(judge, how, self.settings, self.generator)
        for finding in rounds.findings(until, self.say):
            findings.append(finding)
            self.interrupted = self.interrupted or rounds.stopped
            if settled(finding):
                break
        self.selected = self.selected or rounds.selected

    def _learn(self) -> Finding:
        """Take the generator that was given, or train one; where there is neither, say what it would take."""
        given, public = self.target.generator, self.target.public
        if given is None and public is None:
            raise ValueError(MISSING)
        timed = None if self.settings.iterations is not None else LEARNING * self.settings.seconds
        if given is None:
            assert public is not None
            given = learned(public.images, seconds=timed)
        self.generator = given
        return Finding("generator", "note", f"draws images from codes of {given.latent} numbers")

    def _try(self, findings: list[Finding], name: str, check: Callable[[], Finding]) -> None:
        self.say(name)
        findings.append(attempt(name, check))

    def _until(self, share: float) -> Until:
        """The moment at which so much of the time is over; never where iterations are counted."""
        if self.settings.iterations is not None:
            return Until(None)
        return Until(self.start + share * self.settings.seconds)

    def say(self, text: str) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.progress(min(self.spent / self.settings.seconds, 1.0), text)
