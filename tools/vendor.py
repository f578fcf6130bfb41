"""Copy the scripts and fonts that the site serves itself from node_modules to book/_static/vendor."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "book" / "_static" / "vendor"
WIDGETS = MODULES / "@jupyter-widgets" / "html-manager" / "dist"
MATHJAX = MODULES / "mathjax" / "es5"

FILES = {
    MODULES / "requirejs" / "require.js": "require.js",
    MODULES / "sortable-tablesort" / "dist" / "sortable.min.js": "sortable.min.js",
    MODULES / "sortable-tablesort" / "dist" / "sortable.a11y.min.js": "sortable.a11y.min.js",
    WIDGETS / "embed-amd.js": "@jupyter-widgets/html-manager/dist/embed-amd.js",
    MATHJAX / "tex-chtml.js": "mathjax/tex-chtml.js",
    MATHJAX / "output" / "chtml" / "fonts" / "woff-v2": "mathjax/output/chtml/fonts/woff-v2",
    MATHJAX / "input" / "tex" / "extensions": "mathjax/input/tex/extensions",
    MATHJAX / "ui": "mathjax/ui",
    MATHJAX / "a11y": "mathjax/a11y",
}


def main() -> None:
    """Replace the vendor folder by fresh copies."""
    shutil.rmtree(VENDOR, ignore_errors=True)
    folders = ("@jupyter-widgets/html-manager/dist", "@jupyter-widgets")  # its two halves look in two places
    fonts = [(path, f"{folder}/{path.name}") for path in WIDGETS.glob("*.woff2") for folder in folders]
    for source, target in [*FILES.items(), *fonts]:
        destination = VENDOR / target
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination)
        else:
            shutil.copyfile(source, destination)


if __name__ == "__main__":
    main()
