"""What is checked of a package before it is loaded, by its place in the package."""

from pathlib import Path

from co2.plugin.packages.check import check_package
from tests.plugin.support import write_package

FORGETFUL = """from co2 import plugin


class X_Ham(plugin.Co2Plugin):
    def __init__(self, var_dict):
        self.count = 1

    def receive(self, data_dict): ...
"""


def test_what_is_wrong_in_a_module_that_is_a_folder_is_found(tmp_path: Path) -> None:
    write_package(tmp_path, "ham")
    for names in (("spam",), ("spam", "deeper")):
        file = tmp_path.joinpath("ham", *names, "__init__.py")
        file.parent.mkdir()
        file.write_text(FORGETFUL, encoding="utf-8")
    [finding], names = check_package(tmp_path / "ham")
    assert names == ["ham.spam.X_Ham"], "what is deeper is imported by its own package only"
    assert (finding.file, finding.line, finding.fatal) == (str(tmp_path / "ham" / "spam" / "__init__.py"), 5, True)
    assert "does not call super().__init__" in finding.problem


def test_what_is_wrong_in_a_class_that_is_ignored_does_not_keep_a_package_from_loading(tmp_path: Path) -> None:
    write_package(
        tmp_path, "ham", init=FORGETFUL, spam="class X_Ham(plugin.Co2Plugin):\n    def receive(self, d): ..."
    )
    findings, names = check_package(tmp_path / "ham")
    assert [finding.fatal for finding in findings] == [False]
    assert "ignored" in findings[0].problem
    assert names == ["ham.spam.X_Ham"]
