"""The schemas of a package with everything: each method's as it is written down, and true of what co2 accepts.

After a change that is meant, ``CO2_WRITE_SCHEMAS=1`` writes the file anew; read what has changed.
"""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from co2.errors import BadParams
from co2.exact_json.writer import write, write_exact
from co2.plugin.parent.supervisor import PackageSpec
from co2.server.admin.plugin_methods import plugin_entries
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.registry import Caller, Registry
from tests.plugin.support import Carrier, carrying

PLUGINS = Path(__file__).parent / "plugins"
GOLDEN = Path(__file__).parent / "schemas.json"
SPEC = PackageSpec("described", PLUGINS, {"port": 7})
HERE = Caller("127.0.0.1", 5000)

JSON_TYPES = {
    "double": "number",
    "int": "integer",
    "string": "string",
    "array": "array",
    "struct": "object",
    "base64": "string",
    "nil": "null",
}
"""What the schema has where the signature has one of these."""


async def asked(carrier: Carrier, method: str, name: str) -> Any:
    registry = Registry()
    registry.replace_group("plugins", plugin_entries(carrier.supervisor))
    add_introspection(registry, lambda caller: {})
    return await registry.dispatch(method, [name], HERE)


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def test_the_schemas_are_those_that_are_written_down() -> None:
    async def scenario() -> dict[str, Any]:
        async with carrying([SPEC]) as it:
            found = {
                name: await asked(it, "co2.get_method_schema", name) for name in sorted(it.supervisor.methods)
            }
            found["[plugin.described]"] = await it.supervisor.describe("described", "config")
            found["sends"] = await it.supervisor.describe("described", "sends")
            return found

    found = asyncio.run(scenario())
    if os.environ.get("CO2_WRITE_SCHEMAS"):
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    assert found == golden()
    schemas = [one for row in found.values() if "parameters" in row for one in (row["parameters"], row["result"])]
    for schema in [*schemas, found["[plugin.described]"], *(row["data"] for row in found["sends"])]:
        jsonschema.Draft202012Validator.check_schema(schema)
        assert write_exact(schema) == write(schema), "JSON has it without marks"


def test_signature_and_schema_say_the_same() -> None:
    async def scenario() -> dict[str, tuple[list[list[str]], Any]]:
        async with carrying([SPEC]) as it:
            return {
                name: (method.signatures, await it.supervisor.describe_method(name))
                for name, method in it.supervisor.methods.items()
            }

    found = asyncio.run(scenario())
    assert {name.rpartition(".")[2]: signatures for name, (signatures, _) in found.items()} == {
        "old": [["any", "struct"]],
        "bare": [["struct", "struct"]],
        "now": [["double", "struct {data: {}}"]],
        "fade": [["array", "struct {data: {level: double, seconds: double = 1.0, curve: string = 'straight'}}"]],
        "move": [
            [
                "any",
                "struct {data: {to: Point, when: datetime.datetime | None = None, "
                "curve: Curve = <Curve.SMOOTH: 'smooth'>}}",
            ]
        ],
        "run": [["nil", "struct {data: {cues: array, tags: struct, pair: array = (1, 'a')}}"]],
        "load": [["any", "struct {data: {file: Path, raw: base64 = b'\\x00', times: int = 1}}"]],
    }
    for name, ([[result, argument]], schema) in found.items():
        assert schema["result"].get("type") in (JSON_TYPES.get(result), None), name
        properties = schema["parameters"].get("properties")
        if properties is None:
            assert (argument, schema["parameters"]) == ("struct", {})
            continue
        told = re.findall(
            r"(\w+): ([\w. |]+?)( = |, |})", argument.removeprefix("struct {data: {").removesuffix("}")
        )
        assert [one[0] for one in told] == list(properties), name
        for key, kind, end in told:
            assert (end == " = ") == (key not in schema["parameters"]["required"]), key
            one = properties[key]
            assert kind not in JSON_TYPES or one.get("type", JSON_TYPES[kind]) == JSON_TYPES[kind], key


VALUES = [
    ("now", {}),
    ("now", {"x": 1}),
    ("fade", {"level": 0.5}),
    ("fade", {"level": -90, "seconds": 2, "curve": "smooth"}),
    ("fade", {"level": 12}),
    ("fade", {"level": -91.0}),
    ("fade", {}),
    ("fade", {"level": "0.5"}),
    ("fade", {"level": 0, "curve": "cubic"}),
    ("fade", {"level": 0, "second": 1}),
    ("move", {"to": {"x": 1}}),
    ("move", {"to": {"x": 1, "y": 2}, "when": None, "curve": "straight"}),
    ("move", {"to": {"y": 2}}),
    ("move", {"to": [1, 2]}),
    ("move", {"to": {"x": 1}, "when": True}),
    ("move", {"to": {"x": 1}, "curve": "STRAIGHT"}),
    ("run", {"cues": [], "tags": {}}),
    ("run", {"cues": [{"name": "a", "points": [{"x": 1}], "follows": {"name": "b"}}], "tags": {"n": 1}}),
    ("run", {"cues": [{"name": "a", "follows": {}}], "tags": {}}),
    ("run", {"cues": [], "tags": {"n": "1"}}),
    ("run", {"cues": [], "tags": {}, "pair": [1, "b"]}),
    ("run", {"cues": [], "tags": {}, "pair": [1]}),
    ("load", {"file": "a.txt", "raw": "AAEC", "times": 2}),
    ("load", {"file": 3}),
    ("load", {"file": "a.txt", "times": 0}),
]


def test_what_a_schema_accepts_is_what_the_method_accepts() -> None:
    async def scenario() -> list[bool]:
        async with carrying([SPEC]) as it:
            accepted = []
            for method, data in VALUES:
                try:
                    await it.call(f"described.mixer.{method}", data)
                except BadParams:
                    accepted.append(False)
                else:
                    accepted.append(True)
            return accepted

    accepted = asyncio.run(scenario())
    assert {True, False} == {*accepted}
    for (method, data), taken in zip(VALUES, accepted, strict=True):
        schema = golden()[f"described.mixer.{method}"]["parameters"]
        assert jsonschema.Draft202012Validator(schema).is_valid(data) == taken, (method, data)


@pytest.mark.parametrize(
    ("table", "fits"),
    [
        ({"port": 7}, True),
        ({"port": 7, "folder": "x", "names": ["a"], "curve": "smooth"}, True),
        ({}, False),
        ({"port": 0}, False),
        ({"port": 7, "prot": 8}, False),
        ({"port": 7, "curve": "cubic"}, False),
    ],
)
def test_the_schema_of_a_configuration_accepts_what_the_package_does(table: dict[str, Any], fits: bool) -> None:
    async def scenario() -> str:
        async with carrying([PackageSpec("described", PLUGINS, table)]) as it:
            return it.state("described")

    assert asyncio.run(scenario()) == ("running" if fits else "failed")
    assert jsonschema.Draft202012Validator(golden()["[plugin.described]"]).is_valid(table) == fits
