"""Copy the scripts and fonts that the site serves itself from node_modules to book/_static/vendor."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "book" / "_static" / "vendor"
MATHJAX = MODULES / "mathjax" / "es5"

FILES = {
    MODULES / "sortable-tablesort" / "dist" / "sortable.min.js": "sortable.min.js",
    MODULES / "sortable-tablesort" / "dist" / "sortable.a11y.min.js": "sortable.a11y.min.js",
    MATHJAX / "tex-chtml.js": "mathjax/tex-chtml.js",
    MATHJAX / "output" / "chtml" / "fonts" / "woff-v2": "mathjax/output/chtml/fonts/woff-v2",
    MATHJAX / "input" / "tex" / "extensions": "mathjax/input/tex/extensions",
    MATHJAX / "ui": "mathjax/ui",
    MATHJAX / "a11y": "mathjax/a11y",
}


def main() -> None:
    """Replace the vendor folder by fresh copies."""
    shutil.rmtree(VENDOR, ignore_errors=True)
    for source, target in FILES.items():
        destination = VENDOR / target
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination)
        else:
            shutil.copyfile(source, destination)


if __name__ == "__main__":
    main()
