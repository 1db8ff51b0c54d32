"""A library is told from another state of itself, however it is installed."""

from pathlib import Path

import pytest

from fewstep.runtime.installed_code import code_hash, library_code

RECORD = "toylibrary/__init__.py,sha256={},0\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one that is called toylibrary."""
    info = tmp_path / "site" / "toylibrary-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toylibrary\nVersion: 1.0\n")
    (info / "RECORD").write_text(RECORD.format("a"))
    (info.parent / "toylibrary").mkdir()
    (info.parent / "toylibrary" / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(info.parent))
    return info.parent


def test_an_installed_library_is_its_version_and_its_files(site: Path) -> None:
    info, found = site / "toylibrary-1.0.dist-info", [library_code("toylibrary")]
    assert library_code("toylibrary") == found[0]
    (info / "RECORD").write_text(RECORD.format("b"))
    found.append(library_code("toylibrary"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toylibrary\nVersion: 1.1\n")
    found.append(library_code("toylibrary"))
    assert len(set(map(tuple, found))) == 3
    assert code_hash(["toylibrary"]) != code_hash([])


@pytest.mark.parametrize("how", ["checkout", "no record"])
def test_a_library_without_a_list_of_files_is_its_sources(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "checkout":
        (site / "toylibrary").rename(tmp_path / "toylibrary")
        monkeypatch.syspath_prepend(str(tmp_path))
        sources = tmp_path / "toylibrary"
    else:
        (site / "toylibrary-1.0.dist-info" / "RECORD").unlink()
        sources = site / "toylibrary"
    first = library_code("toylibrary")
    (sources / "__init__.py").write_text("x = 12\n")
    assert library_code("toylibrary") != first
