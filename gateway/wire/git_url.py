"""Which URLs a repository may be cloned from. Pure: nothing is looked up.

Only https, and only what can mean nothing else to git, to curl or to a person who reads it. A refusal says which rule
was broken and what to type instead; it repeats nothing of what was typed that has not passed the same check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.config.sections import is_git_host
from gateway.errors import UserError

MAX_URL = 2000
_EXAMPLE = "https://git.example.org/you/repo.git"

#: A part of a path. The one percent escape that forges need is the space's.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~+@,=:-]|%20)+")
_TRANSPORT = re.compile(r"[^/]*::")
#: user@host:path, host:path (but not host:8443/path) and ssh://user@host:22/path.
_SCP = re.compile(r"(?:[^/@]*@)?(?P<host>[^/:@]+):(?![0-9]+/|//)(?P<path>.*)")
_SSH = re.compile(r"(?:git\+)?ssh(?:\+git)?://(?:[^/@]*@)?(?P<host>[^/:@]+)(?::[0-9]*)?/(?P<path>.*)", re.IGNORECASE)
#: What a browser shows: a branch, and other pages, of GitHub, Gitea and Forgejo, of GitLab.
_REPOSITORY = r"(?:(?P<repository>[^/]+/[^/]+)|(?P<gitlab>.+)/-)"
_BRANCH = re.compile(rf"{_REPOSITORY}/(?:tree|src/branch)/(?P<branch>[^/-].*)")
_PAGE = re.compile(
    rf"{_REPOSITORY}/(?:blob|raw|blame|commits?|pull|issues|compare|merge_requests|releases/tag|src/commit)/.+"
)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class GitUrl:
    """A URL that was checked: `host` with its port if one was given, `name` of the repository without `.git`.

    `branch`: the one that the address of a branch's page names; empty for the default one.
    """

    url: str
    host: str
    name: str
    branch: str = ""


def check_git_url(url: str) -> GitUrl:
    """The URL in its normal form: host in lower case, no slash at the end.

    Raises:
        UserError: a repository cannot be cloned from there.
    """
    _check_characters(url)
    _check_scheme(url)
    rest = url[len("https://") :]
    # Before everything else that may be wrong with it: whoever pasted a password should know.
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        raise UserError(
            "That URL contains a user name or a token. Leave it out, and put the token into the configuration: "
            '[git] tokens = {"git.example.org" = "..."}. '
            "If it was a real one, revoke it: it is in this chat now."
        )
    rest = rest.removesuffix("?ref_type=heads")  # GitLab's own, behind a branch
    if "?" in rest or "#" in rest:
        raise UserError(f"A repository's URL has no ? or #. Leave it out, and what follows: {_EXAMPLE}")
    host, _, path = rest.partition("/")
    host = host.lower()
    if not is_git_host(host):
        raise UserError(f"A host must follow https://, with a port if needed. For example: {_EXAMPLE}")
    path = path.rstrip("/")
    _check_path(path)
    path, branch = _without_page(host, path)
    name = path.rpartition("/")[2].removesuffix(".git").replace("%20", "-")
    if not name:
        raise UserError(f"That URL does not name a repository. For example: {_EXAMPLE}")
    return GitUrl(f"https://{host}/{path}", host, name, branch)


def _without_page(host: str, path: str) -> tuple[str, str]:
    """The path of the repository that a page in a browser shows, and the branch that it shows.

    Raises:
        UserError: it is a page of something else.
    """
    if (found := _BRANCH.fullmatch(path)) is not None:
        return found["gitlab"] or found["repository"], found["branch"]
    if (found := _PAGE.fullmatch(path)) is not None:
        repository = f"https://{host}/{found['gitlab'] or found['repository']}"
        raise UserError(f"That is the address of a page. Type that of its repository: {repository}")
    return path, ""


def _check_characters(url: str) -> None:
    if not url:
        raise UserError(f"The URL is empty. For example: --git {_EXAMPLE}")
    if len(url) > MAX_URL:
        raise UserError(f"A URL has at most {MAX_URL} characters.")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in url):
        raise UserError("A URL cannot contain control characters. Type it instead of pasting it.")
    if not url.isascii():
        raise UserError(
            "A URL can have only plain letters (ASCII): others may look alike and lead elsewhere. Type it instead of "
            "pasting it; a host with other letters has an xn-- form."
        )
    if url.startswith("-"):
        raise UserError(f"A URL cannot begin with a dash; git options are not accepted. For example: {_EXAMPLE}")
    if _TRANSPORT.match(url):
        raise UserError(f"URLs with :: start programs, and are not accepted. For example: {_EXAMPLE}")
    if " " in url:
        raise UserError("A URL has no spaces; if the path has one, type %20.")
    if "\\" in url:
        raise UserError("A URL has no backslashes; type / instead.")


def _check_scheme(url: str) -> None:
    """Only https://; the form to type instead is shown where there is one."""
    match = _SCHEME.match(url)
    scheme = match["scheme"].lower() if match else ""
    if scheme == "https":
        return
    ssh = _SSH.fullmatch(url) if match else _SCP.fullmatch(url)
    if ssh or "ssh" in scheme:
        instead = _or_example(f"https://{ssh['host']}/{ssh['path']}" if ssh else "")
        raise UserError(f"SSH URLs need a deploy key, which is not supported yet. Type the https form: {instead}")
    if scheme == "file" or url.startswith(("/", ".", "~")):
        raise UserError(f"A folder of the host cannot be cloned; its URL must begin with https://, like {_EXAMPLE}")
    if scheme in ("http", "git", ""):
        instead = _or_example("https://" + (url[match.end() :] if match else url))
        why = f"{scheme}:// is not encrypted. " if scheme else ""
        raise UserError(f"{why}A repository's URL must begin with https://, like {instead}")
    raise UserError(f"A repository's URL must begin with https://, like {_EXAMPLE}")


def _or_example(url: str) -> str:
    """`url` if it may be cloned from, and so be shown. With an @ it may be a login that was cut in the wrong place."""
    try:
        return _EXAMPLE if "@" in url or not url else check_git_url(url).url
    except UserError:
        return _EXAMPLE


def _check_path(path: str) -> None:
    if not path:
        raise UserError(f"The path of a repository must follow the host. For example: {_EXAMPLE}")
    if re.search(r"%(?!20)", path):
        raise UserError("The only percent escape that is accepted is %20; type other characters as they are.")
    segments = path.split("/")
    if "" in segments:
        raise UserError("There are two slashes in a row in that URL's path; type one.")
    if "." in segments or ".." in segments:
        raise UserError("A URL's path cannot contain . or .. as a part; type the path that you mean.")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise UserError("A URL's path can have only letters, digits and . _ ~ + @ , = : - in it.")
