"""What a student inherits: from the model's own card, or else from its family's makers."""

from pathlib import Path

import pytest

from fewstep.backbones.families import KNOWN
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.licences import APACHE, Licence, inherited_licence, licence_of
from fewstep.backbones.published_sizes import KLEIN, KLEIN_9B


def card(folder: Path, head: str) -> Path:
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n")
    return folder


@pytest.mark.parametrize(
    ("licence", "commercial"),
    [
        (APACHE, True),
        (Licence("mit"), True),
        (Licence("cc-by-nc-4.0"), False),
        (Licence("other", "flux-non-commercial-license"), False),
        (Licence("other", "FLUX Non-Commercial License"), False),
        (Licence("other", "qwen-research"), False),
        (Licence("other", "tongyi-qianwen"), None),
        (Licence(), None),
    ],
    ids=lambda value: value.words if isinstance(value, Licence) else "",
)
def test_what_a_licence_allows(licence: Licence, commercial: bool | None) -> None:
    assert licence.commercial is commercial


def test_the_matrix_of_the_makers_own_weights() -> None:
    known = {family.family: family.makers_licence({}).commercial for family in KNOWN}
    assert known == {
        "qwen-image-2.1": False,
        "qwen-image": True,
        "flux2-klein": True,
        "z-image": True,
        "longcat-image": True,
        "flux3-klein": None,
    }
    assert Flux2Klein.makers_licence(KLEIN).commercial is True
    assert Flux2Klein.makers_licence(KLEIN_9B).commercial is False


def test_a_models_own_card_comes_first(tmp_path: Path) -> None:
    makers = Licence("other", "a research licence")
    own = inherited_licence(card(tmp_path, "license: apache-2.0"), makers)
    assert (own.stated, own.licence.id, own.licence.commercial) == (True, "apache-2.0", True)
    assert "may be used commercially" in own.words
    for folder in (None, tmp_path / "no"):
        theirs = inherited_licence(folder, makers)
        assert (theirs.stated, theirs.licence) == (False, makers)
        assert "this model states none" in theirs.words
        assert "no commercial use" in theirs.words


@pytest.mark.parametrize("head", ["", "license: [", "- apache-2.0"])
def test_a_card_that_says_nothing(tmp_path: Path, head: str) -> None:
    assert licence_of(card(tmp_path, head)) == Licence()
