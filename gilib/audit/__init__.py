"""Does a federation leak? An audit of one's own model, data and client, with a verdict that a build can fail on.

``audit(target)`` tries what this book has on a few clients of the reader's own, and says what came back, what was not
tried, and whether the attacks were strong enough to say anything at all. The command is ``gilib audit``.
"""

from gilib.audit.finding import Finding, Level
from gilib.audit.report import Report
from gilib.audit.run import audit
from gilib.audit.settings import Settings
from gilib.audit.target import Target, load_target

__all__ = ["Finding", "Level", "Report", "Settings", "Target", "audit", "load_target"]
