"""What is chosen by name: ours is light and comes first; a broken package is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wsi_anomaly.core import plugins
from wsi_anomaly.core.errors import ModelError, PluginError, UsageError
from wsi_anomaly.core.registry import Registry

GROUP = "wsi_anomaly.things"


class Thing:
    """What this test registers."""


def registry() -> Registry[type[Thing]]:
    return Registry(
        "thing", GROUP, {"ours": f"{__name__}_ours"}, attribute="name", base=f"{__name__}:Thing"
    )


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package of one module whose entry points are `named`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(package: str, code: str, **named: str) -> Path:
        (tmp_path / f"{package}.py").write_text(code, encoding="utf-8")
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        lines = [f"{name} = {package}:{attribute}" for name, attribute in named.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
        return tmp_path

    return write


GOOD = f"from {__name__} import Thing\nclass Theirs(Thing): pass\n"


def test_a_class_of_another_package_gets_its_name(install):
    install("good_things", GOOD, theirs="Theirs")
    things = registry()
    assert things.names() == ("ours",)  # another package's are not searched for
    assert "theirs" in things
    assert things.get("theirs").name == "theirs"
    assert things.package("theirs") == "good_things 1.0"
    assert things.package("ours") is None


def test_nothing_has_the_name(install):
    install("more_things", GOOD, theirs="Theirs")
    things = registry()
    assert "magic" not in things
    with pytest.raises(UsageError, match="no thing 'magic'; choose one of ours, theirs"):
        things.get("magic")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('no\\nlicence')", "cannot be loaded (RuntimeError: no licence)"),
        ("import nothing_of_this_name", "cannot be loaded (ModuleNotFoundError"),
        ("Theirs = 3", f"is no {__name__}.Thing"),
        ("class Theirs: pass", f"is no {__name__}.Thing"),
    ],
)
def test_a_broken_package_is_named_in_one_sentence(install, code, said):
    install("bad_things", code, theirs="Theirs")
    with pytest.raises(PluginError) as error:
        registry().get("theirs")
    text = str(error.value)
    assert text.startswith("The thing theirs of the package bad_things 1.0 ")
    assert said in text
    assert "\n" not in text
    sys.modules.pop("bad_things", None)


def test_an_error_inside_another_package_names_it(install):
    install("failing_things", GOOD, theirs="Theirs")
    things = registry()
    said = r"theirs of the package failing_things 1.0 failed \(KeyError"
    with pytest.raises(PluginError, match=said), things.blaming("theirs"):
        {}["a"]
    with pytest.raises(ModelError, match="as it is"), things.blaming("theirs"):
        raise ModelError("as it is")
    with pytest.raises(KeyError), things.blaming("ours"):
        {}["a"]


def test_two_packages_of_one_name_are_both_named(install):
    install("first_things", GOOD, theirs="Theirs")
    install("second_things", GOOD, theirs="Theirs")
    with pytest.raises(PluginError, match=r"first_things 1.0 .*second_things 1.0|second.* first"):
        registry().get("theirs")


def test_ours_comes_first_and_asks_no_package(install, monkeypatch):
    install("clashing_things", "raise RuntimeError", ours="Theirs")
    monkeypatch.setitem(sys.modules, f"{__name__}_ours", None)
    things = registry()
    assert things.foreign() == {"ours": "clashing_things 1.0"}  # what doctor tells
    things = registry()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("looked up"))
    with pytest.raises(ModuleNotFoundError):  # our module, not theirs
        things.get("ours")
    assert "ours" in things


def test_a_name_of_ours_cannot_be_taken_by_registering():
    things = registry()
    with pytest.raises(UsageError, match="under another name"):
        things.register("ours")(Thing)
    things.register("mine")(Thing)
    assert things.get("mine") is Thing
    assert things.names() == ("ours", "mine")


def test_a_package_in_the_current_folder_is_not_asked(install, monkeypatch):
    monkeypatch.chdir(install("near_things", "raise SystemExit('has run')", theirs="Theirs"))
    assert "theirs" not in registry()


@pytest.mark.parametrize("one", [plugins.NETWORKS, plugins.DETECTORS, plugins.READERS])
def test_each_of_ours_is_where_the_table_says(one):
    for name in one.names():
        assert one.get(name).__module__ == one._ours[name]


def test_our_names_are_known_without_loading_anything():
    script = (
        "import sys, wsi_anomaly.core.plugins as p\n"
        "[r.names() for r in (p.NETWORKS, p.DETECTORS, p.READERS)]\n"
        "'density' in p.DETECTORS\n"
        "heavy = {'torch', 'numpy', 'importlib.metadata'} & set(sys.modules)\n"
        "heavy |= {m for m in sys.modules if m.startswith('wsi_anomaly.')}\n"
        "print(sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(
        ["wsi_anomaly.core", "wsi_anomaly.core.caches", "wsi_anomaly.core.errors",
         "wsi_anomaly.core.plugins", "wsi_anomaly.core.registry"]
    )  # fmt: skip
