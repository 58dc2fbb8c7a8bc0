"""Whole sources and the plans that they get. UPDATE_SNAPSHOTS=1 writes the plans anew; read the difference then."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from gateway.errors import UserError
from stacks.catalog import catalog
from stacks.plan import Plan, make_plan, to_json
from tests.support.trees import FolderTree

FOLDER = Path(__file__).parent / "examples"
EXAMPLES = sorted(FOLDER.iterdir())
STACKS = catalog()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gets_the_plan_beside_it(example: Path) -> None:
    try:
        plan = make_plan(FolderTree(example), STACKS)
        planned = to_json(plan)
        assert msgspec.convert(json.loads(json.dumps(planned)), Plan) == plan
    except UserError as error:
        planned = {"error": str(error)}
    text = json.dumps(planned, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        (example / "plan.json").write_text(text)
    assert text == (example / "plan.json").read_text()


def test_every_stack_has_examples() -> None:
    plans = [json.loads((example / "plan.json").read_text()) for example in EXAMPLES]
    primaries = {plan["stack"] for plan in plans if "stack" in plan}
    assert primaries == {stack.name for stack in STACKS}


def test_examples_are_no_part_of_our_own_code(pytestconfig: pytest.Config) -> None:
    """Ours are found, theirs are not: neither by pytest nor by a path of this machine in them."""
    assert "tests/stacks/examples" in pytestconfig.getini("norecursedirs")
    for file in FOLDER.rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert "://" not in text and str(FOLDER.parents[2]) not in text, file
