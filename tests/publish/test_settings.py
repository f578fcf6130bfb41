"""site.toml: what it may say, and that everything else is refused with what to write."""

from pathlib import Path

import pytest
from gilib_publish import documented, files, settings
from gilib_publish.launch import BRANCH, places
from gilib_publish.report import links
from gilib_publish.settings import Site
from gilib_publish.version import Version, line
from jupyter_book.config import get_final_config
from sphinx.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
VERSION = Version("0.1.0", "c" * 40, "2026-11-27")


def read(folder: Path, text: str) -> Site:
    (folder / "site.toml").write_text(text, encoding="utf-8")
    return settings.read(folder)


def test_the_committed_file_is_empty():
    assert settings.read(ROOT) == Site()


def test_no_file_is_an_empty_one(tmp_path):
    assert settings.read(tmp_path) == Site()


def test_addresses_are_brought_into_one_form(tmp_path):
    site = read(tmp_path, 'address = "https://example.org/gi"\nrepository = "https://github.com/owner/name.git"')
    assert site.address == "https://example.org/gi/"
    assert site.repository == "https://github.com/owner/name"
    assert (site.forge, site.name, site.page("book/a")) == ("github", "name", "https://example.org/gi/book/a.html")


@pytest.mark.parametrize(
    "text, words",
    [
        ('adress = "https://example.org"', "nothing reads the key 'adress'. It may have: address, repository"),
        ('[launch]\nbindr = "https://mybinder.org"', "nothing reads the key 'bindr' of [launch]"),
        ('launch = "https://mybinder.org"', "write [launch] in a line of its own"),
        ("address = example.org", 'Texts stand in double quotes: branch = "main"'),
        ("address = 3", "Write a text in double quotes"),
        ('address = "example.org/gi"', 'Write a whole address without "?" and "#": "https://example.org/name"'),
        ('address = "ftp://example.org"', "Write a whole address"),
        ('address = "https://example.org/?a=1"', "Write a whole address"),
        ('address = "https://example.org/a b"', "Write a whole address"),
        ('address = "https://example.org/index.html"', "Write the folder, not a page in it"),
        ('repository = "git@github.com:owner/name.git"', "Readers have no key for it. Write what a browser shows"),
        ('repository = "https://github.com/owner"', 'Write what a browser shows: "https://github.com/owner/name"'),
        ('repository = "https://git.example.org/a/b"', "give a contact too"),
        ('branch = "my branch"', 'Write the name of a branch: "main"'),
        ('contact = "somebody"', 'Write a mail address alone: "errors@example.org"'),
        ('contact = "mailto:a@example.org"', "Write a mail address alone"),
        (
            '[launch]\nbinder = "https://mybinder.org"',
            "launch.binder is 'https://mybinder.org'. It opens the repository",
        ),
        (
            'repository = "https://gitlab.com/a/b"\n[launch]\ncolab = "https://colab.research.google.com"',
            "Colab opens notebooks of github.com only",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=r"^site\.toml") as error:
        read(tmp_path, text)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "redirects, words",
    [
        ({"book/a": "book/b"}, "the page book/a is still there"),
        ({"old": "book/c"}, "there is no page book/c to lead to"),
        ({"old.html": "book/a"}, "without .html"),
        ({"../old": "book/a"}, "from the top folder"),
        ({"/old": "book/a"}, "from the top folder"),
    ],
)
def test_redirects_that_lead_nowhere_are_refused(redirects, words):
    with pytest.raises(ConfigError, match="redirects") as error:
        files.check_redirects(redirects, {"book/a", "book/b"})
    assert words in str(error.value)


def test_redirects_to_a_section_are_allowed():
    files.check_redirects({"book/old": "book/a#section"}, {"book/a"})


@pytest.mark.parametrize("key", documented.ELSEWHERE)
def test_documented_keys_that_belong_elsewhere_are_refused(key):
    config = {"sphinx": {"recursive_update": True}}
    documented.check(config)
    *path, last = key.split(".")
    place = config
    for word in path:
        place = place.setdefault(word, {})
    for nothing in (None, False, "", {}, {"url": ""}):
        documented.check(config)
        place[last] = nothing
    place[last] = {"url": "https://github.com/owner/name"}
    with pytest.raises(ConfigError) as error:
        documented.check(config)
    assert str(error.value) == f"_config.yml: `{key}` is not read by this book; {documented.ELSEWHERE[key]}."


def test_without_the_joining_of_dictionaries_the_build_is_refused():
    with pytest.raises(ConfigError, match=r"sphinx\.recursive_update` must be true"):
        documented.check({"sphinx": {"config": {}}})


@pytest.mark.parametrize(
    "key, value, option",
    [
        ("extra_footer", "By us", "extra_footer"),
        ("announcement", "A draft", "announcement"),
        ("home_page_in_navbar", False, "home_page_in_toc"),
    ],
)
def test_documented_keys_of_the_pages_reach_the_theme(tmp_path, key, value, option):
    import yaml

    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["html"][key] = value
    final, _ = get_final_config(user_yaml=config, cli_config={"latex_individualpages": False})
    assert final["html_theme_options"][option] == value
    assert final["html_theme_options"]["use_download_button"] is True  # and ours are still there


def test_who_hears_of_errors():
    public = Site(repository="https://github.com/owner/name")
    both = Site(repository="https://gitlab.com/group/part/name", contact="errors@example.org")
    alone = Site(contact="errors@example.org", address="https://example.org/gi/")
    assert links(Site(), "book/a", "A & B", VERSION) == []
    ((_, url),) = links(public, "book/a", "A & B", VERSION)
    assert url.startswith(
        "https://github.com/owner/name/issues/new?title=Error%20on%20the%20page%20%E2%80%9CA%20%26%20B"
    )
    assert "Page%3A%20book%2Fa%0AVersion%200.1.0%2C%20commit%20ccccccc" in url
    (_, issue), (by_mail, mail) = links(both, "book/a", "A", VERSION)
    assert issue.startswith("https://gitlab.com/group/part/name/-/issues/new?issue%5Btitle%5D=")
    assert by_mail == "or by mail"
    assert mail.startswith("mailto:errors@example.org?subject=")
    ((text, mail),) = links(alone, "book/a", "A", VERSION)
    assert text == "Report an error on this page"
    assert "https%3A%2F%2Fexample.org%2Fgi%2Fbook%2Fa.html" in mail


def test_where_a_chapter_runs():
    hosts = {"binder": "https://mybinder.org", "jupyterhub": "https://hub.example.edu"}
    github = Site(repository="https://github.com/owner/name", branch="a/b", colab="https://colab.example", **hosts)
    urls = {one["text"]: one["url"] for one in places(github, "chapters/part/one")}
    assert urls == {
        "Binder": "https://mybinder.org/v2/gh/owner/name/a%2Fb?urlpath=lab/tree/chapters/part/one.ipynb",
        "Colab": f"https://colab.example/github/owner/name/blob/{BRANCH}/chapters/part/one.ipynb",
        "JupyterHub": "https://hub.example.edu/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fowner%2Fname"
        f"&branch={BRANCH}&urlpath=lab%2Ftree%2Fname%2Fchapters%2Fpart%2Fone.ipynb",
    }
    for repository, kind in (
        ("https://gitlab.com/group/name", "gl/group%2Fname"),
        ("https://codeberg.org/owner/name", "git/https%3A%2F%2Fcodeberg.org%2Fowner%2Fname"),
    ):
        first, _ = places(Site(repository=repository, **hosts), "a")
        assert first["url"] == f"https://mybinder.org/v2/{kind}/main?urlpath=lab/tree/a.ipynb"
    assert places(Site(repository="https://github.com/owner/name"), "a") == []


def test_the_version_without_git_is_its_number():
    assert line(Version("1.2.3"), Site()) == '<p class="gilib-version">Version 1.2.3</p>'
    assert "commit ccccccc</p>" in line(VERSION, Site())
    assert 'href="https://gitlab.com/a/b/-/commit/cccc' in line(VERSION, Site(repository="https://gitlab.com/a/b"))
