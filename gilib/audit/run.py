"""The audit: checks in their order, within a budget of time, and a control where nothing came back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from gilib.audit.adaptation import Adapted, adaptation_of
from gilib.audit.finding import Finding
from gilib.audit.judge import Judge
from gilib.audit.preflight import preflight
from gilib.audit.reading import count_equations, read_features, read_labels, with_labels
from gilib.audit.report import Report
from gilib.audit.searching import FIRST, Outcome, Searches, chosen
from gilib.audit.settings import Settings
from gilib.audit.solving import solvers
from gilib.audit.target import Target
from gilib.iteration.reconstruction import NoFiniteStartError

Progress = Callable[[float, str], None]
REFUSALS = (ValueError, MemoryError, NoFiniteStartError)
"""What attacks raise where they do not apply, do not fit or find nothing. Anything else is an error of ours, and shows."""
CONTROL = 0.35
"""The share of the time that is kept for the control."""


def audit(target: Target, settings: Settings | None = None, *, progress: Progress | None = None) -> Report:
    """Try what applies on a target's clients, and report what came back.

    First what costs nothing: can it be looked at at all, labels, features, counts of equations, divisions and exact
    solutions; then searches, each from two starts, adapted to the defenses that the client declares. Which search gets
    most of the time is chosen by its objective and by how well two starts agree, never by a true image; those serve
    the report alone. Where no image leaks, the same attacks run on the same client without defenses and before
    training. Where that control is not recovered, by an attack that could look at the client too, the report has no
    answer, and never says that nothing leaks.
    ``progress(share, text)`` is called along the way. Ctrl-C ends the audit; the report then has what was finished.

    Raises ValueError where the client cannot compute an update of these images, and says why.
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
        self._say("computing the victims' updates")
        self.findings.append(preflight(self.target))
        self._checks(self.target, self.findings, until=1 - CONTROL)
        if any(one.level == "leak" for one in self.findings):
            return
        self._say("the control: no defense, no training")
        try:
            control = self.target.control()
        except ValueError as error:
            self.control.append(Finding("control", "no answer", str(error)))
            return
        self._checks(control, self.control, until=1.0)

    def _checks(self, target: Target, findings: list[Finding], *, until: float) -> None:
        """All checks on a target, whose findings are appended as they come; ``until`` is a share of the time."""
        how = adaptation_of(target.client.defenses, target.updates[0])
        judge = Judge(target, self.settings)
        if findings is self.findings:
            for name, check in (("labels", read_labels), ("features", read_features), ("equations", count_equations)):
                self._try(findings, name, partial(check, target), ())
        for name, solve in solvers(target).items():
            self._try(findings, name, partial(solve, judge, how), how.missing)
            if findings[-1].level == "leak" and findings is self.control:
                return
        for finding in self._searches(judge, how, until=until):
            findings.append(finding)
            if finding.level == "leak" and findings is self.control:
                return

    def _searches(self, judge: Judge, how: Adapted, *, until: float) -> Iterator[Finding]:
        """Every plan for a short time, then the chosen one for the rest."""
        self._say("labels for the searches")
        labels, assumes = with_labels(judge.target)
        searches = Searches(judge.target, labels, how, self.settings)
        left = max(until * self.settings.seconds - self.spent, 1.0)
        plans, outcomes = searches.affordable(FIRST * left), list[Outcome]()
        if skipped := [plan.name for plan in searches.plans()[len(plans) :]]:
            yield Finding("searches", "no answer", f"no time for {', '.join(skipped)}")
        for plan in plans:
            self._say(f"search: {plan.name}")
            began = time.perf_counter()
            try:
                outcome = searches.run(plan, FIRST * left / len(plans))
            except REFUSALS as error:
                yield _refused(f"search: {plan.name}", error, began)
                continue
            outcomes.append(outcome)
            yield self._judged(judge, f"search: {plan.name}", outcome, began, assumes, how.missing)
        if not outcomes:
            return
        best = chosen(outcomes)
        self.selected = self.selected or best.plan.name
        self._say(f"the chosen search: {best.plan.name}")
        began, left = time.perf_counter(), max(until * self.settings.seconds - self.spent, 1.0)
        try:
            outcome = searches.run(best.plan, left)
        except REFUSALS as error:
            yield _refused(f"chosen search: {best.plan.name}", error, began)
            return
        yield self._judged(judge, f"chosen search: {best.plan.name}", outcome, began, assumes, how.missing)

    def _judged(
        self,
        judge: Judge,
        name: str,
        outcome: Outcome,
        began: float,
        assumes: tuple[str, ...],
        unadapted: tuple[str, ...],
    ) -> Finding:
        numbers = {
            "iterations": outcome.iterations,
            "distance": outcome.distance,
            "agreement": outcome.agreement,
        }
        finding = judge.images(
            name, outcome.images, note=outcome.note, numbers=numbers, assumes=assumes, unadapted=unadapted
        )
        if outcome.stopped:
            self.interrupted = True
        return replace(finding, seconds=time.perf_counter() - began)

    def _try(
        self, findings: list[Finding], name: str, check: Callable[[], Finding], unadapted: tuple[str, ...]
    ) -> None:
        self._say(name)
        began = time.perf_counter()
        try:
            found = check()
        except REFUSALS as error:
            findings.append(_refused(name, error, began))
            return
        hidden = unadapted if found.worst is not None else ()
        findings.append(replace(found, seconds=time.perf_counter() - began, unadapted=hidden))

    def _say(self, text: str) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.progress(min(self.spent / self.settings.seconds, 1.0), text)


def _refused(name: str, error: Exception, began: float) -> Finding:
    return Finding(name, "no answer", f"does not apply: {error}", seconds=time.perf_counter() - began)
