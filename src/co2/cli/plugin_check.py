"""``co2 plugin check``: find the errors for which a host would refuse a plugin package."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from co2.cli.arguments import json_option
from co2.cli.failures import EXIT_FAILED
from co2.cli.output import coloured, one_line, print_json

if TYPE_CHECKING:
    from co2.plugin.packages.check import Finding

__all__ = ["check"]


@click.command()
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@json_option
def check(path: Path, as_json: bool) -> int:
    """Check whether a plugin package would be loaded, and show what to repair. PATH is its folder or file, or a
    folder with several packages.

    The code is read, and then imported in a separate process; no plugin is made. The table [plugin.NAME] of
    ./co2.toml is checked too.

    \b
    Examples:
      co2 plugin check plugins/ham
      co2 plugin check plugins --json | jq '.[].findings[].problem'
    """
    from co2.config import load_config
    from co2.config.private import Trust
    from co2.plugin.packages.check import check_package

    config = load_config("satellite", {}, os.environ, Path.cwd())
    tables, file = config.plugin_config, str(config.config_file or "")
    trust = Trust(config.trusted_users, config.trusted_groups)
    rows: list[dict[str, Any]] = []
    for package in _packages(Path(os.path.normpath(path.absolute()))):
        name = package.name.removesuffix(".py")
        env = config.plugin_limits.get(name, {}).get("env", config.plugin_env)
        findings, names = check_package(package, tables.get(name, {}), file, trust, env)
        rows.append({"package": name, "path": str(package), "names": names, "findings": findings})
    if as_json:
        print_json([{**row, "findings": [_as_dict(one) for one in row["findings"]]} for row in rows])
    else:
        for row in rows:
            _print(row)
    return EXIT_FAILED if any(one.fatal for row in rows for one in row["findings"]) else 0


def _packages(path: Path) -> list[Path]:
    """Return the packages to check: the path itself, or those in the folder."""
    from co2.plugin.packages.discovery import packages_in
    from co2.plugin.packages.near_misses import near_packages

    if path.is_file() or (path / "__init__.py").is_file():
        return [path]
    names = packages_in(path)
    packages = [path / name if (path / name).is_dir() else path / f"{name}.py" for name in names]
    return [*packages, *near_packages(path)] or [path]


def _print(row: dict[str, Any]) -> None:
    findings: list[Finding] = row["findings"]
    for one in findings:
        place = f"{one.file}:{one.line}" if one.line else one.file
        click.echo(f"{one_line(place)}: {'' if one.fatal else 'ignored: '}{one_line(one.problem)}")
        if one.mend:
            click.echo(f"    {one_line(one.mend)}")
    fatal = sum(one.fatal for one in findings)
    if fatal:
        count = f"{fatal} problem{'' if fatal == 1 else 's'}"
        click.echo(coloured(f"{row['package']}: {count}; it would not load", "red"))
    else:
        click.echo(coloured(f"{row['package']}: no problems: {', '.join(row['names'])}", "green"))


def _as_dict(finding: "Finding") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(finding)
