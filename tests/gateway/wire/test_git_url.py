from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.sections import is_git_host
from gateway.errors import UserError
from gateway.wire.git_url import MAX_URL, check_git_url

EXAMPLE = "https://git.example.org/you/repo.git"


def refusal(url: str) -> str:
    with pytest.raises(UserError) as caught:
        check_git_url(url)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "normal", "host", "name"),
    [
        (EXAMPLE, EXAMPLE, "git.example.org", "repo"),
        ("HTTPS://Git.Example.ORG/You/Repo", "https://git.example.org/You/Repo", "git.example.org", "Repo"),
        ("https://localhost:8443/demo.git", "https://localhost:8443/demo.git", "localhost:8443", "demo"),
        ("https://127.0.0.1:1/a/b/c//", "https://127.0.0.1:1/a/b/c", "127.0.0.1:1", "c"),
        ("https://h/~ana/x.y-z_1", "https://h/~ana/x.y-z_1", "h", "x.y-z_1"),
        ("https://h/@scope/-/x.git.git", "https://h/@scope/-/x.git.git", "h", "x.git"),
        ("https://dev.h/org/My%20Team/_git/a%20b", "https://dev.h/org/My%20Team/_git/a%20b", "dev.h", "a-b"),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x", "xn--bcher-kva.example", "x"),
        ("https://h/...", "https://h/...", "h", "..."),
    ],
)
def test_what_can_be_cloned(url: str, normal: str, host: str, name: str) -> None:
    found = check_git_url(url)
    assert (found.url, found.host, found.name) == (normal, host, name)
    assert check_git_url(found.url) == found


@pytest.mark.parametrize(
    ("page", "url", "branch"),
    [
        ("https://h/you/repo/tree/main", "https://h/you/repo", "main"),
        ("https://h/you/repo/tree/feature/x/docs/", "https://h/you/repo", "feature/x/docs"),
        ("https://h/you/repo/src/branch/dev", "https://h/you/repo", "dev"),
        ("https://h/a/b/c/repo/-/tree/v1.2?ref_type=heads", "https://h/a/b/c/repo", "v1.2"),
        ("https://h/you/tree", "https://h/you/tree", ""),
        ("https://h/you/repo/tree", "https://h/you/repo/tree", ""),
        ("https://h/group/sub/actions", "https://h/group/sub/actions", ""),
    ],
)
def test_a_page_of_a_branch_is_its_repository_and_the_branch(page: str, url: str, branch: str) -> None:
    found = check_git_url(page)
    assert (found.url, found.branch) == (url, branch)


@pytest.mark.parametrize(
    "page", ["you/repo/blob/main/README.md", "you/repo/pull/7", "you/repo/-/merge_requests/3", "you/repo/commit/abc"]
)
def test_another_page_is_told_what_to_type(page: str) -> None:
    assert (
        refusal(f"https://h/{page}") == "That is the address of a page. Type that of its repository: https://h/you/repo"
    )


@pytest.mark.parametrize(
    ("url", "told"),
    [
        # ssh: with the https form where there is one
        ("git@git.example.org:you/repo.git", "deploy key, which is not supported yet. Type the https form: " + EXAMPLE),
        ("git.example.org:you/repo.git", "https form: " + EXAMPLE),
        ("git@git.example.org:/you/repo.git", "https form: " + EXAMPLE),
        ("ssh://git@git.example.org:22/you/repo.git", "https form: " + EXAMPLE),
        ("SSH://git.example.org/you/repo.git", "https form: " + EXAMPLE),
        ("git+ssh://git@git.example.org/you/repo.git", "https form: " + EXAMPLE),
        ("ssh://-oProxyCommand=touch@h/x", "deploy key"),
        ("ssh://-oProxyCommand=touch/x", "deploy key"),
        ("git@-oProxyCommand=x:y", "deploy key"),
        # other ways to a repository
        ("http://git.example.org/you/repo.git", "http:// is not encrypted. A repository's URL must begin with https"),
        ("http://git.example.org/you/repo.git", EXAMPLE),
        ("git://git.example.org/you/repo.git", "git:// is not encrypted"),
        ("git.example.org/you/repo.git", "must begin with https://, like " + EXAMPLE),
        ("localhost:8443/demo.git", "must begin with https://, like https://localhost:8443/demo.git"),
        ("file:///etc/passwd", "folder of the host"),
        ("/etc/passwd", "folder of the host"),
        ("../other", "folder of the host"),
        ("~/x", "folder of the host"),
        ("ftp://h/x", "must begin with https://"),
        ("ext://h/x", "must begin with https://"),
        ("repo", "must begin with https://"),
        # programs and options
        ("ext::sh -c touch% canary", "start programs"),
        ("ext::https://h/x", "start programs"),
        ("fd::17", "start programs"),
        ("https::https://h/x", "start programs"),
        ("::x", "start programs"),
        ("--upload-pack=touch canary", "cannot begin with a dash"),
        ("-c", "cannot begin with a dash"),
        ("-ccore.sshCommand=touch", "cannot begin with a dash"),
        ("-oProxyCommand=touch", "cannot begin with a dash"),
        ("--", "cannot begin with a dash"),
        # characters
        ("", "is empty"),
        ("https://h/" + "x" * MAX_URL, "at most 2000"),
        ("https://h/a\x00b", "control characters"),
        ("https://h/a\nb", "control characters"),
        ("https://h/a\r", "control characters"),
        ("https://h/\x1b[31m", "control characters"),
        ("https://h/\x7f", "control characters"),
        ("https://h/a\tb", "control characters"),
        ("https://h/a\x85b", "plain letters"),
        ("https://gіthub.com/x", "plain letters"),  # a Cyrillic і
        ("https://h/\u202egit.x", "plain letters"),
        ("https://h/a\u00a0b", "plain letters"),
        ("https://h/a\u2028b", "plain letters"),
        ("https://h／x", "plain letters"),
        ("https://h/a b", "no spaces"),
        (" https://h/a", "no spaces"),
        ("https://h/a ", "no spaces"),
        ("https://h\\x/y", "no backslashes"),
        ("https://h/..\\x", "no backslashes"),
        # credentials
        ("https://ana@h/x", "[git] tokens"),
        ("https://ana:s3cret@h/x", "[git] tokens"),
        ("https://s3cret@h:8443/x", "revoke it"),
        ("https://ana:s3cret@h", "[git] tokens"),
        ("https://@h/x", "[git] tokens"),
        ("https://h@evil.example/x?y", "[git] tokens"),
        # query, fragment
        ("https://h/x?service=git-receive-pack", "no ? or #"),
        ("https://h/x#readme", "no ? or #"),
        ("https://h?x", "no ? or #"),
        # host
        ("https://", "A host must follow https:"),
        ("https:///x", "A host must follow https:"),
        ("https://:443/x", "A host must follow https:"),
        ("https://h:/x", "A host must follow https:"),
        ("https://h:0/x", "A host must follow https:"),
        ("https://h:65536/x", "A host must follow https:"),
        ("https://h:1:2/x", "A host must follow https:"),
        ("https://h:22x/x", "A host must follow https:"),
        ("https://-h/x", "A host must follow https:"),
        ("https://h-/x", "A host must follow https:"),
        ("https://a..b/x", "A host must follow https:"),
        ("https://h./x", "A host must follow https:"),
        ("https://a_b/x", "A host must follow https:"),
        ("https://[::1]/x", "A host must follow https:"),
        ("https://h%2eorg/x", "A host must follow https:"),
        ("https://$(touch)/x", "A host must follow https:"),
        ("https://" + "a" * 64 + "/x", "A host must follow https:"),
        ("https://" + "a." * 126 + "ab/x", "A host must follow https:"),
        # path
        ("https://h", "path of a repository must follow the host"),
        ("https://h/", "path of a repository must follow the host"),
        ("https://h///", "path of a repository must follow the host"),
        ("https://h/.git", "does not name a repository"),
        ("https://h/a/.git/", "does not name a repository"),
        ("https://h/a//b", "two slashes"),
        ("https://h//a", "two slashes"),
        ("https://h/../x", "cannot contain . or .."),
        ("https://h/a/..", "cannot contain . or .."),
        ("https://h/a/./b", "cannot contain . or .."),
        ("https://h/%2e%2e/x", "only percent escape"),
        ("https://h/%2E./x", "only percent escape"),
        ("https://h/a%00b", "only percent escape"),
        ("https://h/a%0ab", "only percent escape"),
        ("https://h/a%2fb", "only percent escape"),
        ("https://h/a%5cb", "only percent escape"),
        ("https://h/a%252e", "only percent escape"),
        ("https://h/a%", "only percent escape"),
        ("https://h/a%2", "only percent escape"),
        ("https://h/a%40b", "only percent escape"),
        ("https://h/$(touch)", "only letters, digits"),
        ("https://h/a;b", "only letters, digits"),
        ("https://h/a&b", "only letters, digits"),
        ("https://h/`x`", "only letters, digits"),
        ("https://h/<b>", "only letters, digits"),
        ("https://h/'x'", "only letters, digits"),
    ],
)
def test_what_cannot_is_told_its_rule(url: str, told: str) -> None:
    text = refusal(url)
    assert told in text
    assert text.isprintable()
    assert not any(part in text for part in ("s3cret", "canary", "passwd", "evil", "touch", "ana"))


@pytest.mark.parametrize(
    "url",
    [
        "ana:s3cret@h/x",
        "http://ana:s3cret@h/x",
        "git://s3cret@h/x",
        "ssh://ana:s3cret@git.example.org/you/repo.git",
        "s3cret@git.example.org:you/repo.git",
        "ana:s3cret@git.example.org:you/repo.git",
        "http://h/x?token=s3cret",
        "https://h/x?token=s3cret",
        "https://h/x#s3cret",
        "https://ana:s3c/ret@h/x",
        "s3cret",
    ],
)
def test_a_credential_is_never_said_again(url: str) -> None:
    assert "s3c" not in refusal(url)


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: "https://h/" + text))
def test_whatever_is_typed_is_harmless_or_refused_in_plain_words(text: str) -> None:
    try:
        found = check_git_url(text)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert found.url.startswith("https://") and found.url.isascii() and " " not in found.url
        assert found.name and "/" not in found.name
        assert check_git_url(found.url) == found


@pytest.mark.parametrize(("text", "is_one"), [("h", True), ("h.org:1", True), ("H", False), ("h/", False), ("", False)])
def test_hosts(text: str, is_one: bool) -> None:
    assert is_git_host(text) is is_one
