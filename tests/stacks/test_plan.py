"""Stacks and versions for a source: who beats whom, which version is taken, and what people are told."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gateway.errors import UserError
from stacks.catalog import Stack, catalog
from stacks.plan import Asked, Plan, Toolchain, make_plan, to_json
from stacks.tree import MemoryTree

STACKS = catalog()
PROJECT = ".huskies/project.toml"


def plan(files: dict[str, str], stack: str | None = None) -> Plan:
    return make_plan(MemoryTree(files), STACKS, stack=stack)


def only(files: dict[str, str]) -> Toolchain:
    (toolchain,) = plan(files).toolchains
    return toolchain


def version(files: dict[str, str]) -> tuple[str, bool]:
    toolchain = only(files)
    return toolchain.version, toolchain.packaged


def engines(text: str) -> dict[str, str]:
    return {"package.json": json.dumps({"engines": {"node": text}})}


def requires(text: str) -> dict[str, str]:
    return {"pyproject.toml": f'[project]\nrequires-python = "{text}"\n'}


# Which stack


def test_nothing_is_asked_for() -> None:
    assert plan({}) == plan({"README.md": ""}) == Plan("minimal", "", "", ())


def test_a_marker_decides() -> None:
    assert plan({"main.go": "", "go.mod": "module m\n"}) == Plan(
        "go", "go.mod", "", (Toolchain("go", "go.mod", "1.24", True),)
    )


def test_who_beats_whom_in_the_choice_of_the_primary() -> None:
    files = {"Cargo.toml": "", "package.json": "{}", "pyproject.toml": ""}
    of_files = plan(files)
    files[PROJECT] = 'stack = "node"'
    of_project = plan(files)
    asked = plan(files, "python")
    assert [(one.stack, one.because) for one in (of_files, of_project, asked)] == [
        ("rust", "Cargo.toml"),
        ("node", PROJECT),
        ("python", "asked for"),
    ]
    for one in (of_files, of_project, asked):
        assert [toolchain.stack for toolchain in one.toolchains] == ["rust", "python", "node"], "the catalog's order"
    assert of_files.warnings == (
        "rust is the primary stack (Cargo.toml); python (pyproject.toml) and node (package.json) too: "
        "all are installed.",
    )
    assert of_project.warnings == (
        f"node is the primary stack ({PROJECT}); rust (Cargo.toml) and python (pyproject.toml) too: all are installed.",
    )


def test_a_stack_that_no_file_asks_for_is_installed_all_the_same() -> None:
    planned = plan({"package.json": "{}", ".ruby-version": "3.2"}, "ruby")
    assert [(one.stack, one.marker, one.version) for one in planned.toolchains] == [
        ("ruby", "", "3.2"),
        ("node", "package.json", "24"),
    ]
    assert planned.warnings == ("ruby is the primary stack (asked for); node (package.json) too: both are installed.",)
    assert plan({}, "jvm") == Plan("jvm", "asked for", "", (Toolchain("jvm", "", "21", True),))


@pytest.mark.parametrize("where", ["asked for", PROJECT])
def test_minimal_by_name_is_the_base_alone(where: str) -> None:
    files = {"app/package.json": "{}", "app/node_modules/x": ""}
    if where == PROJECT:
        files[PROJECT] = 'stack = "minimal"'
    assert plan(files, "minimal" if where == "asked for" else None) == Plan("minimal", where, "", ())


def test_a_stack_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"no stack cobol. There are: go, jvm, minimal, node, python, ruby, rust\."):
        plan({"go.mod": ""}, "cobol")
    planned = plan({"go.mod": "", PROJECT: 'stack = "cobol"'})
    assert (planned.stack, planned.because) == ("go", "go.mod")
    (warning,) = planned.warnings
    assert warning.startswith(f'{PROJECT} says stack = "cobol"') and "There are: go, jvm" in warning


def test_the_one_subfolder_is_planned_and_version_files_above_count() -> None:
    files = {"app/package.json": "{}", "app/.node-version": "22\n", ".nvmrc": "22.1.0\n", ".node-version": "18\n"}
    planned = plan(files)
    assert (planned.stack, planned.because, planned.folder) == ("node", "app/package.json", "app")
    (node,) = planned.toolchains
    assert [one.file for one in node.asked] == [".nvmrc", "app/.node-version"], "the nearest of each name"
    assert node.version == "22.1.0"


def test_the_top_counts_although_a_folder_has_files_too() -> None:
    assert version({"go.mod": "", "sub/.tool-versions": "golang 1.22.1"}) == ("1.24", True)


# Which version


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", ("24", True)),
        (">=18", ("24", True)),
        (">=18 <21", ("20", True)),
        ("18 || 20", ("20", True)),
        (">=25", ("26", True)),
        ("21", ("21", True)),
        ("20.11", ("20", True)),
        ("20.11.1", ("20.11.1", True)),
        ("^28", ("28", True)),
        (">=18 <24.5", ("22", True)),
        (">=24.1 <24.5", ("24", True)),
    ],
)
def test_node(text: str, expected: tuple[str, bool]) -> None:
    assert version(engines(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">=3.9", ("3.13", True)),
        (">=3.9,<3.13", ("3.12", False)),
        (">3.13", ("3.13", True)),
        ("<=3.13", ("3.12", False)),
        (">=3.14", ("3.14", False)),
        ("==3.11.*", ("3.11", False)),
        ("==3.11", ("3.11.0", False)),
        ("~=3.12.1", ("3.12", False)),
        (">=3.12.2,<3.12.5", ("3.12", False)),
        (">=3.20", ("3.20", False)),
        ("==2.7.*", ("2.7", False)),
    ],
)
def test_python(text: str, expected: tuple[str, bool]) -> None:
    assert version(requires(text)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Cargo.toml": "", "rust-toolchain.toml": "[toolchain]\nchannel = 'stable'"}, ("1.85", True)),
        ({"Cargo.toml": "", "rust-toolchain": "nightly\n"}, ("nightly", False)),
        ({"Cargo.toml": "", "rust-toolchain": "[toolchain]\nchannel = '1.78.0'\n"}, ("1.78.0", False)),
        ({"Cargo.toml": "[package]\nrust-version = '1.99'"}, ("1.99", False)),
        ({"Cargo.toml": "[package]\nrust-version.workspace = true\n"}, ("1.85", True)),
        ({"package.json": '{"volta": {"node": "20.11.1"}}'}, ("20.11.1", True)),
        ({"package.json": "{}", ".nvmrc": "# ours\r\n\r\nlts/iron\r\n"}, ("20", True)),
        ({"package.json": "{}", ".nvmrc": "\ufeffv18\r\n"}, ("18", True)),
        ({"package.json": '\ufeff{\r\n"engines": {"node": 22}}'}, ("22", True)),
        ({"go.mod": "module m\r\n\r\ngo 1.25 // new\r\n"}, ("1.27", True)),
        ({"go.mod": "module m\ntoolchain default\n"}, ("1.24", True)),
        ({"go.work": "go 1.26\n"}, ("1.27", True)),
        ({"go.mod": "", ".go-version": "go1.23.1"}, ("1.23.1", True)),
        ({"go.mod": "", ".tool-versions": "golang 1.28rc1"}, ("1.28rc1", False)),
        ({"setup.py": "", "setup.cfg": "[options]\npython_requires = >=3.8, <3.12 ; old\n"}, ("3.11", False)),
        ({"setup.py": "setup(python_requires='~=3.12.0')"}, ("3.12", False)),
        ({"setup.py": "# python_requires='<3'\n"}, ("3.13", True)),
        ({"Pipfile": "[requires]\npython_version = '3.12'\n"}, ("3.12", False)),
        ({"Pipfile": "[requires]\npython_full_version = '3.12.1'\n"}, ("3.12.1", False)),
        ({"requirements.txt": "", "runtime.txt": "python-3.11.4"}, ("3.11.4", False)),
        ({"requirements.txt": "", ".python-version": "cpython-3.11\n3.12\n"}, ("3.11", False)),
        ({"requirements.txt": "", ".tool-versions": "nodejs 20\npython 3.10.1 # old"}, ("3.10.1", False)),
        ({"Gemfile": 'ruby "3.2.2", engine: "jruby"'}, ("3.2.2", False)),
        ({"Gemfile": "ruby '~> 3.2'"}, ("3.3", True)),
        ({"Gemfile": "ruby('>= 3.1', '< 3.3')"}, ("3.2", False)),
        ({"Gemfile": 'ruby file: ".ruby-version"', ".ruby-version": "ruby-3.4.1@app"}, ("3.4.1", False)),
        ({"Gemfile": '# ruby "3.0"\ngem "rubyzip", "2"'}, ("3.3", True)),
        ({"pom.xml": "<maven.compiler.source>1.8</maven.compiler.source>"}, ("21", True)),
        ({"pom.xml": "<maven.compiler.release> 22 </maven.compiler.release>"}, ("25", True)),
        ({"pom.xml": "<release>${java.version}</release><java.version>24</java.version>"}, ("25", True)),
        ({"pom.xml": "<release>1.0.1</release>"}, ("21", True)),
        ({"pom.xml": "", ".java-version": "temurin64-17.0.5"}, ("17.0.5", False)),
        ({"pom.xml": "", ".java-version": "1.8"}, ("8", False)),
        ({"pom.xml": "", ".sdkmanrc": "# sdk\njava=17.0.5-tem\n"}, ("17.0.5", False)),
        ({"build.gradle": "", ".tool-versions": "java adoptopenjdk-openj9-11.0.2"}, ("11.0.2", False)),
        ({"build.gradle": "sourceCompatibility = '1.8'"}, ("21", True)),
        ({"build.gradle": "sourceCompatibility = JavaVersion.VERSION_22"}, ("25", True)),
        ({"build.gradle": "sourceCompatibility = JavaVersion.VERSION_1_8"}, ("21", True)),
        ({"build.gradle": "java { toolchain { languageVersion = JavaLanguageVersion.of(17) } }"}, ("17", False)),
        ({"build.gradle.kts": "kotlin { jvmToolchain(11) }"}, ("11", False)),
        ({"build.gradle.kts": "// jvmToolchain(11)"}, ("21", True)),
        ({"build.gradle.kts": '/*\n jvmToolchain(11)\n*/\nval all = "src/**/*.kt"'}, ("21", True)),
        ({"build.gradle.kts": "sourceCompatibility = JavaVersion.toVersion(22)"}, ("25", True)),
        ({"pom.xml": "<!-- <java.version>8</java.version>\n--><java.version>24</java.version>"}, ("25", True)),
        (
            {
                "build.gradle.kts": "jvmToolchain(libs.versions.java.get().toInt())",
                "gradle/libs.versions.toml": "[versions]\njava = '17'",
            },
            ("17", False),
        ),
        ({"pom.xml": "", ".java-version": "corretto-17.0.9.8.1"}, ("17.0.9", False)),
        ({"pom.xml": "", ".tool-versions": "java zulu-17.46.19"}, ("17", False)),
        ({"pom.xml": "", ".tool-versions": "java graalvm-22.3.1+java17"}, ("17", False)),
        ({"pom.xml": "", ".sdkmanrc": "java=22.3.r11-grl"}, ("11", False)),
        ({"pom.xml": "", "mise.toml": "[tools]\njava = 'temurin-25'"}, ("25", True)),
        ({"package.json": "{}", "mise.toml": "[tools]\nnode = ['20.11.1', '18']"}, ("20.11.1", True)),
        ({"package.json": "{}", ".mise.toml": "[tools]\nnode = {version = 'lts'}"}, ("24", True)),
        ({"requirements.txt": "", ".config/mise.toml": "[tools]\npython = '3.12'"}, ("3.12", False)),
        ({"go.mod": "", "mise.toml": "[tools]\ngo = 'latest'\nnode = '18'"}, ("1.24", True)),
        ({"package.json": '{"devEngines": {"runtime": {"name": "node", "version": "^22"}}}'}, ("22", True)),
        (
            {"package.json": '{"devEngines": {"runtime": [{"name": "bun"}, {"name": "node", "version": "20"}]}}'},
            ("20", True),
        ),
        ({"package.json": '{"devEngines": {"runtime": {"name": "bun", "version": "1"}}}'}, ("24", True)),
        ({"package.json": '{"pnpm": {"executionEnv": {"nodeVersion": "22.1.0"}}}'}, ("22.1.0", True)),
        ({"package.json": "{}", ".npmrc": "use-node-version=20.11.1\n"}, ("20.11.1", True)),
        (
            {"package.json": "{}", "pnpm-workspace.yaml": "packages:\n  - a\nuseNodeVersion: '22.1.0'\n"},
            ("22.1.0", True),
        ),
        ({"package.json": '{"packageManager": "pnpm@10.4.1"}'}, ("24", True)),
    ],
)
def test_what_ecosystems_write(files: dict[str, str], expected: tuple[str, bool]) -> None:
    planned = plan(files)
    assert [(one.version, one.packaged) for one in planned.toolchains] == [expected]
    assert planned.warnings == ()


def test_the_most_precise_of_several_is_taken() -> None:
    files = {**engines("20.x"), ".nvmrc": "20", ".node-version": "20.11", ".tool-versions": "nodejs 20.11.1"}
    assert version(files) == ("20.11.1", True)
    del files[".tool-versions"]
    assert version(files) == ("20.11", True)
    del files[".node-version"]
    assert version(files) == ("20", True)


def test_what_was_asked_is_told_in_its_own_words_and_once() -> None:
    pom = "<java.version>17</java.version><maven.compiler.source>17</maven.compiler.source>"
    assert only({"pom.xml": pom}).asked == (Asked("pom.xml", "17", ">=17"),)
    assert only({"Gemfile": "ruby '>= 3.1',  '< 3.4'"}).asked == (Asked("Gemfile", ">= 3.1, < 3.4", ">=3.1,<3.4"),)


def test_a_range_below_all_that_is_known_is_told() -> None:
    planned = plan(requires("<3"))
    assert planned.toolchains[0].version == "3.13"
    assert planned.warnings == (
        'pyproject.toml says project.requires-python = "<3": no known release of Python fits, so 3.13 is used.',
    )


def test_a_stack_without_versions_has_the_one_that_it_names() -> None:
    zig = Stack("zig", "Zig", 15, ("build.zig",), "0.14", Path("zig"))
    planned = make_plan(MemoryTree({"build.zig": ""}), [zig])
    assert planned.toolchains == (Toolchain("zig", "build.zig", "0.14", True),)


# Contradictions


def test_two_files_that_contradict_each_other() -> None:
    with pytest.raises(UserError) as caught:
        plan({**engines(">=22"), ".nvmrc": "lts/*", ".node-version": "v20.11.1"})
    assert str(caught.value) == (
        'No version of Node.js fits: .nvmrc says "lts/*" and .node-version says "v20.11.1". Set one of them to the '
        'other, or write `[versions]` and below it `node = "24"` into .huskies/project.toml.'
    )


def test_one_file_that_contradicts_itself() -> None:
    with pytest.raises(UserError) as caught:
        plan(engines(">=22 <20"))
    assert str(caught.value) == (
        'package.json says engines.node = ">=22 <20", but no version of Node.js can be that. Correct it, or write '
        '`[versions]` and below it `node = "24"` into .huskies/project.toml.'
    )


def test_three_files_that_agree_only_in_pairs() -> None:
    files = {**requires("!=3.12.*"), ".python-version": "*", "setup.cfg": "python_requires = >=3.12"}
    files["setup.py"] = "setup(python_requires='<3.13')"
    with pytest.raises(UserError) as caught:
        plan(files)
    assert [name for name in files if f"{name} says" in str(caught.value)] == [
        "pyproject.toml",
        ".python-version",
        "setup.cfg",
        "setup.py",
    ]


def test_the_remedy_that_is_told_helps() -> None:
    files = {**requires(">=3.12"), ".python-version": "3.10.14\n"}
    with pytest.raises(UserError) as caught:
        plan(files)
    (line,) = re.findall(r"`(python = [^`]+)`", str(caught.value))
    assert version({**files, PROJECT: f"[versions]\n{line}\n"}) == ("3.10.14", False)


def test_a_secondary_stack_may_contradict_itself_too() -> None:
    with pytest.raises(UserError, match=r"Node\.js"):
        plan({"Cargo.toml": "", **engines("18"), ".nvmrc": "20"})


# .huskies/project.toml, and what people ask for


def test_who_beats_whom_in_the_choice_of_a_version() -> None:
    files = {**engines(">=22"), ".nvmrc": "20"}
    files[PROJECT] = '[versions]\nnode = "18.1"\n'
    assert only(files).asked == (Asked(PROJECT, "18.1", "==18.1.*"),)
    files[PROJECT] = "[versions]\nnode = 18\n"
    assert version(files) == ("18", True)
    files[PROJECT] = '[versions]\nnode = ">=18 <21"\n'
    assert version(files) == ("20", True)
    files[PROJECT] = '[versions]\nnode = "lts/iron"\n'
    assert version(files) == ("20", True)


def test_a_version_for_a_stack_that_is_not_there_is_told() -> None:
    planned = plan({"go.mod": "", PROJECT: '[versions]\nruby = "3.2"\nnode = 20\n'})
    assert [toolchain.stack for toolchain in planned.toolchains] == ["go"]
    assert planned.warnings == (
        "There is a version for the stack ruby, but nothing asks for that stack.",
        "There is a version for the stack node, but nothing asks for that stack.",
    )


def test_one_mistake_does_not_hide_what_stands_beside_it() -> None:
    planned = plan({"go.mod": "", PROJECT: '[versions]\ncobol = "85"\ngo = "1.22"\n'})
    assert planned.toolchains[0].version == "1.22"
    planned = plan({"pyproject.toml": "[", "setup.cfg": "python_requires = >=3.8,<3.12"})
    assert planned.toolchains[0].version == "3.11"
    assert len(planned.warnings) == 1
    assert len(plan({PROJECT: "stack ="}).warnings) == len(plan({PROJECT: "x = 1"}, "minimal").warnings) == 1


def test_a_project_file_that_contradicts_itself() -> None:
    with pytest.raises(UserError) as caught:
        plan({"go.mod": "", PROJECT: '[versions]\ngo = ">=1.24,<1.20"'})
    assert str(caught.value) == (f'{PROJECT} says go = ">=1.24,<1.20", but no version of Go can be that. Correct it.')


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("stack = ", [f"{PROJECT} cannot be read (not TOML): it was ignored."]),
        ("stack = ''", []),
        ("\ufeff# nothing\r\n", []),
        ("stack = 3", [f"{PROJECT} says stack = a number, but there is no such stack."]),
        ("stack = ['go']", []),
        ("stack = ['go', 'cobol']", [f"{PROJECT} says stack = a list, but there is no such stack."]),
        ("stack = 'a\\nb'", [f'{PROJECT} says stack = "a\\nb", but there is no such stack.']),
        ("versions = 'new'", [f'{PROJECT} says versions = "new", which is not a table']),
        (
            "[versions]\nrust = 'new'",
            [f'{PROJECT} says rust = "new", which is not a version of Rust: write, for example,'],
        ),
        ("[versions]\npython = 3.10", [f"{PROJECT} says python = 3.1, which is not a version of Python: write, for"]),
        ("[versions]\ngo = 0x" + "f" * 9000, [f"{PROJECT} says go = a number, which is not a version of Go"]),
        ("[versions]\ngo = true", [f"{PROJECT} says go = true, which is not a version of Go"]),
        ("[versions]\ngo = 1979-05-27", [f"{PROJECT} says go = something else, which is not a version of Go"]),
        ("[versions]\n'c\\nobol' = '1'", [f'{PROJECT} has a version for "c\\nobol", which is not a stack']),
        ("[versions]\nminimal = '1'", [f'{PROJECT} has a version for "minimal", which is not a stack with versions']),
        ("editor = 'vim'\n'' = 1", [f'{PROJECT} has "editor", which', f'{PROJECT} has "", which means nothing']),
    ],
)
def test_what_is_wrong_in_a_project_file_is_told_and_not_looked_at(text: str, warnings: list[str]) -> None:
    planned = plan({"go.mod": "", PROJECT: text})
    assert planned.toolchains == (Toolchain("go", "go.mod", "1.24", True),)
    assert len(planned.warnings) == len(warnings)
    for warning, start in zip(planned.warnings, warnings, strict=True):
        assert warning.startswith(start)


# What people are warned of


def test_a_text_that_is_no_version_is_told_and_not_looked_at() -> None:
    planned = plan({**engines("foo"), ".nvmrc": "v20\n"})
    assert planned.toolchains[0].version == "20"
    assert planned.warnings == (
        'package.json says engines.node = "foo", which is not a version of Node.js: it was ignored.',
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\x1b[31m", '"a\\nb\\x1b[31m"'),
        ("\ud800\u202e", '"\\ud800\\u202e"'),
        ("x" * 60, f'"{"x" * 60}"'),
        ("x" * 1000, f'"{"x" * 59}…"'),
        (["20"], "a list"),
        (20.5, "20.5"),
        (True, "true"),
        (10**12, "a number"),
    ],
)
def test_a_foreign_text_is_shown_short_and_plain(value: object, shown: str) -> None:
    (warning,) = plan({"package.json": json.dumps({"engines": {"node": value}})}).warnings
    assert warning == f"package.json says engines.node = {shown}, which is not a version of Node.js: it was ignored."
    assert warning.isprintable()


@pytest.mark.parametrize("value", [None, "", {"x": 1}])
def test_a_value_that_says_nothing_is_no_mistake(value: object) -> None:
    planned = plan({"package.json": json.dumps({"engines": {"node": value}})})
    assert (planned.toolchains[0].asked, planned.warnings) == ((), ())


@pytest.mark.parametrize("text", ['{"engines": []}', "[]", "3", '{"engines": "node"}'])
def test_a_file_of_another_shape_says_nothing(text: str) -> None:
    assert plan({"package.json": text}).warnings == ()


def test_a_file_that_is_not_of_its_format_is_told_once() -> None:
    for text in ("{", "[" * 60_000, '{"a": ' + "9" * 60_000 + "}"):
        planned = plan({"package.json": text})
        assert planned.warnings == ("package.json cannot be read (not JSON): what it says about versions was ignored.",)
    for text in ("[", "a = " + "[" * 60_000, "a = " + "9" * 60_000, "a = 1\na = 2"):
        planned = plan({"pyproject.toml": text})
        assert planned.warnings == (
            "pyproject.toml cannot be read (not TOML): what it says about versions was ignored.",
        )


def test_a_file_that_is_too_long_or_no_text_is_told() -> None:
    class Unreadable(MemoryTree):
        def text(self, path: str) -> str | None:
            return None

    planned = make_plan(Unreadable({"package.json": "", PROJECT: ""}), STACKS)
    assert planned.warnings == (
        "package.json cannot be read (not a text in UTF-8): what it says about versions was ignored.",
    )
    head = "<java.version>17</java.version>"
    assert plan({"pom.xml": head + " " * (256 * 1024 - len(head))}).warnings == ()
    assert plan({"pom.xml": head + " " * 256 * 1024}).warnings == (
        "pom.xml cannot be read (longer than 256 KiB): what it says about versions was ignored.",
    )


def test_a_key_of_thousands_of_parts_takes_no_memory() -> None:
    """The parser of TOML takes memory with the square of their number: gigabytes for 64 KiB."""
    dotted = "a." * 5_000 + "a = 1\n"
    tracemalloc.start()
    planned = plan({"Cargo.toml": dotted, PROJECT: dotted})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(planned.warnings) == 2
    assert most < 5_000_000
    # And time, with each line: seconds for 256 KiB.
    head = f"[{'a.' * 290}z]\n"
    assert plan({"Cargo.toml": head + ("a." * 290 + "a = 1\n") * 400}).warnings == (
        "Cargo.toml cannot be read (too many dots): what it says about versions was ignored.",
    )
    kept = "a." * 290 + "a = 1\n[package]\nrust-version = '1.99'"
    assert version({"Cargo.toml": kept}) == ("1.99", False)


@pytest.mark.timeout(20)  # minutes, if the end were looked for from each beginning
@pytest.mark.parametrize(
    ("file", "begin"), [("pom.xml", "<!--"), ("build.gradle", "/*\n"), ("build.gradle.kts", "/*\n")]
)
def test_comments_that_never_end_take_no_time(file: str, begin: str) -> None:
    assert plan({file: begin * (255 * 1024 // len(begin))}).stack == "jvm"


def test_warnings_do_not_flood() -> None:
    keys = "\n".join(f"k{n} = 1" for n in range(1000))
    warnings = plan({"go.mod": "", PROJECT: keys}).warnings
    assert len(warnings) == 21
    assert len(plan({"go.mod": "", PROJECT: "\n".join(keys.split("\n")[:20])}).warnings) == 20
    assert warnings[-1] == "And 980 more like these."


def test_what_was_built_elsewhere_is_told() -> None:
    files = {"Gemfile": "", "package.json": "{}", "node_modules/x/y.js": "", "vendor/bundle/z.rb": "", ".venv/cfg": ""}
    warnings = plan(files).warnings[1:]
    assert warnings == (
        "vendor/bundle already exists: if it was made on another machine or platform, it may not work here. "
        "Run `bundle install --redownload` inside to rebuild it; nothing was deleted.",
        "node_modules already exists: if it was made on another machine or platform, it may not work here. "
        "Run `npm install` inside to rebuild it; nothing was deleted.",
    )
    (one, built) = plan({"app/package.json": "{}", "app/node_modules/x": "", "node_modules/x": ""}).warnings
    assert one.startswith("Nothing at the top") and built.startswith("app/node_modules already exists")
    assert plan({"package.json": "{}", "node_modules": "a file"}).warnings == ()


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"package.json": '{"packageManager": "pnpm@9.12.0"}', "yarn.lock": ""}, "pnpm install"),
        ({"package.json": '{"packageManager": "yarn@4.9.2"}'}, "yarn install"),
        ({"package.json": "{}", "pnpm-lock.yaml": ""}, "pnpm install"),
        ({"package.json": "{}", "yarn.lock": ""}, "yarn install"),
        ({"package.json": "{}", "package-lock.json": ""}, "npm install"),
        ({"package.json": '{"packageManager": "npm@11.6.0"}', "yarn.lock": ""}, "npm install"),
    ],
)
def test_the_projects_own_package_manager_rebuilds(files: dict[str, str], command: str) -> None:
    warning = plan({**files, "node_modules/x": ""}).warnings[-1]
    assert f"Run `{command}` inside to rebuild it" in warning


def test_a_workspace_is_one_line() -> None:
    packages = {f"packages/{name}/{file}": "{}" for name in "abc" for file in ("package.json", "node_modules/x")}
    own = {"site/package.json": "{}", "site/yarn.lock": "", "site/node_modules/x": ""}
    files = {"package.json": "{}", "pnpm-lock.yaml": "", "node_modules/x": "", **packages, **own}
    assert plan(files).warnings == (
        "node_modules and 3 more of that name already exist: if they were made on another machine or platform, they "
        "may not work here. Run `pnpm install` inside to rebuild them (for a workspace once, at its top); "
        "nothing was deleted.",
        "site/node_modules already exists: if it was made on another machine or platform, it may not work here. "
        "Run `yarn install` inside to rebuild it; nothing was deleted.",
    )


HOSTILE: list[Callable[[str], str]] = [
    lambda s: s * 3000,
    lambda s: f"{s}\x00\n" * 1000,
    lambda s: "ruby " * 1000 + s,
    lambda s: f'[versions]\npython = "{s}"\nstack = "{s}"',
    lambda s: json.dumps({"engines": {"node": s * 3000}, "volta": {"node": [s]}}),
    lambda s: f'[project]\nrequires-python = """{s}"""\n[toolchain]\nchannel = "{s}"\n[package]\nrust-version = 1\n',
]
NASTY = ["$(id)", "1;RUN id", "`id`", "\x1b]0;x\x07", "\u202e", "9" * 99, "../..", "1 || 2", "^", "'", "\\", "١"]


@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.parametrize("text", NASTY)
def test_a_hostile_source_gets_a_plan_or_an_error_for_people(make: Callable[[str], str], text: str) -> None:
    places = {read.file for stack in STACKS if stack.versions for read in stack.versions.reads}
    markers = {marker for stack in STACKS for marker in stack.markers}
    files = dict.fromkeys([*places, *markers, PROJECT], make(text))
    try:
        planned = plan(files)
    except UserError as error:
        assert str(error).isprintable()
        return
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,40}", one.version) for one in planned.toolchains)
    assert all(warning.isprintable() and len(warning) < 400 for warning in planned.warnings)
    assert msgspec.convert(json.loads(json.dumps(to_json(planned))), Plan) == planned


# Kept as JSON


def test_a_plan_as_json() -> None:
    planned = plan({**engines("^20"), "Cargo.toml": ""})
    values = to_json(planned)
    assert list(values) == ["stack", "because", "folder", "toolchains", "warnings"]
    assert values["toolchains"][1]["asked"] == [{"file": "package.json", "text": "^20", "allows": "^20"}]
    assert msgspec.convert(json.loads(json.dumps(values)), Plan) == planned, "as it is stored in a recipe"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"Cargo.toml": "", "rust-toolchain.toml": "[toolchain]\ntargets = ['wasm32-unknown-unknown']"},
            "rust-toolchain.toml says toolchain.targets = wasm32-unknown-unknown, which is not read: what installs it",
        ),
        (
            {"Cargo.toml": "", "rust-toolchain.toml": "[toolchain]\ncomponents = ['clippy', 'miri', 'llvm-tools']"},
            "rust-toolchain.toml says toolchain.components = miri, llvm-tools, which is not read: what installs it",
        ),
        (
            {"build.gradle": "java { toolchain { languageVersion = JavaLanguageVersion.of(project.jdk) } }"},
            "build.gradle says project.jdk) } }, which is not read: write `[versions]` and below it `jvm",
        ),
        (
            {"pom.xml": "<maven.compiler.release>${my.java}</maven.compiler.release>"},
            "pom.xml says ${my.java}, which is not read: write `[versions]`",
        ),
        ({"package.json": '{"packageManager": "yarn@4.1.0"}'}, "package.json says yarn@4.1.0, which is not read"),
        (
            {"pom.xml": "", ".java-version": "mandrel-23.1.1.0"},
            'says "mandrel-23.1.1.0", which is not a version of Java',
        ),
    ],
)
def test_what_is_not_read_is_named(files: dict[str, str], told: str) -> None:
    (warning,) = plan(files).warnings
    assert told in warning


@pytest.mark.parametrize(
    "files",
    [
        {
            "Cargo.toml": "",
            "rust-toolchain.toml": "[toolchain]\ncomponents = ['clippy', 'rust-analyzer']\ntargets = []",
        },
        {"Cargo.toml": "", "rust-toolchain.toml": "[toolchain]\ntargets = 3\ncomponents = {a = 1}"},
        {"build.gradle": "of(JavaLanguageVersion.of(17)); x = JavaLanguageVersion.of(javaVersion)"},
        {"pom.xml": "<maven.compiler.release>${java.version}</maven.compiler.release><java.version>21</java.version>"},
        {"package.json": '{"packageManager": "npm@11.0.0"}'},
    ],
)
def test_what_an_image_has_anyway_is_not_named(files: dict[str, str]) -> None:
    assert plan(files).warnings == ()


def test_modules_say_versions_too() -> None:
    found = plan(
        {
            "settings.gradle.kts": 'include(":app")',
            "app/build.gradle.kts": "kotlin { jvmToolchain(17) }",
            "lib/core/build.gradle.kts": "java { toolchain { languageVersion.set(JavaLanguageVersion.of(17)) } }",
            "old/build.gradle.kts": "kotlin { jvmToolchain(11) }",
        }
    )
    (jvm,) = found.toolchains
    assert (jvm.version, [asked.file for asked in jvm.asked]) == ("17", ["app/build.gradle.kts"])
    assert found.warnings == (
        'old/build.gradle.kts says "11", which does not fit app/build.gradle.kts (17): it was ignored.',
    )


def test_a_module_that_does_not_fit_is_told_with_the_one_that_it_does_not_fit() -> None:
    """The first that was read may say the very same."""
    found = plan(
        {
            "settings.gradle.kts": "",
            "android/build.gradle.kts": "x = JavaVersion.VERSION_11",
            "core/build.gradle.kts": "kotlin { jvmToolchain(17) }",
            "lib/build.gradle.kts": "kotlin { jvmToolchain(11) }",
        }
    )
    assert found.warnings == (
        'lib/build.gradle.kts says "11", which does not fit core/build.gradle.kts (17): it was ignored.',
    )


def test_all_that_a_module_does_not_fit_together_are_told() -> None:
    found = plan(
        {
            "a/package.json": json.dumps({"engines": {"node": ">=20"}}),
            "b/package.json": json.dumps({"engines": {"node": "<=20 || >=24"}}),
            "c/package.json": json.dumps({"engines": {"node": ">20 <24"}}),
        }
    )
    assert found.warnings[-1].endswith(" which does not fit b/package.json (<=20 || >=24): it was ignored.")
    found = plan(
        {
            "a/package.json": json.dumps({"engines": {"node": ">=20"}}),
            "b/package.json": json.dumps({"engines": {"node": "<=22"}}),
            "c/package.json": json.dumps({"engines": {"node": "18 || 24"}}),
        }
    )
    assert found.warnings[-1].endswith(" which does not fit what the others say together: it was ignored.")


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ({"os": ["win32"], "cpu": ["ia32"]}, "24"),
        ({"os": "darwin"}, "24"),
        ({"os": ["!linux"]}, "24"),
        ({"cpu": ["!x64", "!arm64"]}, "24"),
        ({"os": ["linux"], "cpu": ["s390x"]}, "24"),
        ({"os": ["linux", "darwin"]}, "20"),
        ({"os": ["!win32"]}, "20"),
        ({"os": ["linux"], "cpu": ["x64"]}, "20"),
        ({"os": [], "cpu": 3}, "20"),
    ],
)
def test_a_module_for_another_platform_says_nothing(platform: dict[str, object], expected: str) -> None:
    module = json.dumps({"engines": {"node": "^20.9.0"}, **platform})
    assert version({"package.json": "{}", "npm/part/package.json": module}) == (expected, True)
    # The project itself may be for whatever it wants.
    assert version({"package.json": module}) == ("20", True)


def test_several_stacks_that_are_asked_for() -> None:
    found = plan({"go.mod": "", "docs/package.json": "{}"})
    assert [one.stack for one in found.toolchains] == ["go"]
    assert found.warnings == ("Not installed: node (docs/package.json). `--stack go,node` adds it.",)
    found = plan({"go.mod": "", "docs/package.json": "{}"}, stack="node, go")
    assert (found.stack, [one.stack for one in found.toolchains]) == ("node", ["go", "node"])
    assert found.warnings == ("node is the primary stack (asked for); go (go.mod) too: both are installed.",)
    told = plan({".huskies/project.toml": 'stack = ["ruby", "go"]'})
    assert (told.stack, [one.stack for one in told.toolchains]) == ("ruby", ["go", "ruby"])
    with pytest.raises(UserError, match="minimal is the base alone"):
        plan({}, stack="go,minimal")


def test_what_a_modules_tool_made_is_named() -> None:
    found = plan({"go.mod": "", "web/package.json": "{}", "web/node_modules/x/package.json": "{}"})
    assert any(warning.startswith("web/node_modules already exists") for warning in found.warnings)
