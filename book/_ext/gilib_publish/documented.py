"""Keys of _config.yml that Jupyter Book documents and this book sets elsewhere: refused, instead of ignored.

All other documented keys work: `recursive_update` in _config.yml puts them together with what stands under `sphinx`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from sphinx.errors import ConfigError

REPOSITORY = "set `repository` and `branch` in site.toml"
BUTTON = "set `repository` in site.toml: it brings a button to the sources and a link to report an error on every page"
TRACKING = "leave it out: this site tracks nobody and loads nothing from another host"
LAUNCH = "set what you need under [launch] in site.toml"
ELSEWHERE = {
    "repository": REPOSITORY,
    "launch_buttons": LAUNCH,
    "html.use_repository_button": BUTTON,
    "html.use_issues_button": BUTTON,
    "html.use_edit_page_button": BUTTON,
    "html.baseurl": "set `address` in site.toml",
    "html.analytics": TRACKING,
    "html.google_analytics_id": TRACKING,
    "html.comments": TRACKING,
    "html.navbar_footer_text": "use `html.extra_footer`, which this theme shows",
    "sphinx.config.html_baseurl": "set `address` in site.toml",
    "sphinx.config.comments_config": TRACKING,
    "sphinx.config.html_theme_options.analytics": TRACKING,
    "sphinx.config.html_theme_options.launch_buttons": LAUNCH,
    "sphinx.config.html_theme_options.repository_url": REPOSITORY,
    "sphinx.config.html_theme_options.repository_branch": REPOSITORY,
    "sphinx.config.html_theme_options.use_repository_button": BUTTON,
    "sphinx.config.html_theme_options.use_issues_button": BUTTON,
    "sphinx.config.html_theme_options.use_edit_page_button": BUTTON,
}


def given(config: object, key: str) -> bool:
    """Tell whether something other than empty values stands under a key, named with dots."""
    for word in key.split("."):
        config = config.get(word) if isinstance(config, dict) else None
    return something(config)


def something(value: object) -> bool:
    """Tell whether a value, or one in it, is neither empty nor false."""
    if isinstance(value, dict):
        return any(something(one) for one in value.values())
    return bool(value)


def check(config: dict[str, Any]) -> None:
    """Raise ConfigError for a key that would have no effect, and say where its setting belongs."""
    for key, instead in ELSEWHERE.items():
        if given(config, key):
            raise ConfigError(f"_config.yml: `{key}` is not read by this book; {instead}.")
    if not given(config, "sphinx.recursive_update"):
        raise ConfigError(
            "_config.yml: `sphinx.recursive_update` must be true. Without it `html_theme_options` replaces what "
            "`html.extra_footer`, `html.announcement` and others say."
        )


def check_file(root: Path) -> None:
    """Check the _config.yml of a folder, where there is one."""
    path = root / "_config.yml"
    if path.exists():
        check(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
