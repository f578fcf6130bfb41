"""The picture of the landing page and the README is the one that the chapter computed."""

import subprocess
import sys


def test_the_cover_is_the_figure_stored_in_the_chapter() -> None:
    done = subprocess.run([sys.executable, "tools/cover.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
