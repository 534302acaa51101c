"""Names to things, found by path or entry point."""

from importlib.metadata import EntryPoint

import pytest

from haihe.runtime import registry
from haihe.runtime.errors import BoardError, PlanError


def test_a_driver_is_found_by_its_path():
    from haihe.drivers.servo import sts

    assert registry.load("driver", "servo.sts") is sts


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_listed_name_loads(kind):
    found = registry.names(kind)
    assert found == sorted(set(found))
    for name in found:
        assert registry.load(kind, name) is not None


def test_names_leave_out_what_is_no_driver():
    names = registry.names("driver")
    assert "servo.sts" in names
    assert not {"servo.sts_emulator", "ports.serial", "roles", "servo"} & set(names)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(PlanError) as caught:
        registry.load("driver", "servo.stx")
    assert str(caught.value) == "driver 'servo.stx' is not known. Did you mean 'servo.sts'?"


def test_a_far_name_gets_them_all():
    with pytest.raises(BoardError) as caught:
        registry.load("world", "qqqqqq", BoardError)
    known = ", ".join(registry.names("world"))
    assert str(caught.value) == f"world 'qqqqqq' is not known. Known: {known}."


@pytest.mark.parametrize("name", ["", ".", "servo", "servo.", "servo..sts", "../x", "os.path"])
def test_what_is_no_driver_is_refused(name):
    with pytest.raises(PlanError, match="is not known"):
        registry.load("driver", name)


def test_others_add_theirs_through_entry_points(monkeypatch):
    entry = EntryPoint("motor.acme", "haihe.runtime.clock", "haihe.drivers")
    monkeypatch.setattr(
        registry, "_entry_points", lambda group: [entry] if group == "haihe.drivers" else []
    )
    assert registry.load("driver", "motor.acme").SECOND == 1_000_000_000
    assert "motor.acme" in registry.names("driver")
    with pytest.raises(PlanError, match=r"Did you mean 'motor\.acme'"):
        registry.load("driver", "motor.acne")


@pytest.mark.parametrize("kind", registry.DATA)
def test_data_is_a_file_by_name(kind):
    for name, path in registry.data_names(kind).items():
        assert registry.find_data(kind, name) == path
        assert path.is_file()


def test_unknown_data_gets_the_nearest():
    with pytest.raises(BoardError) as caught:
        registry.find_data("unit", "pan-tlit", BoardError)
    assert str(caught.value) == "unit 'pan-tlit' is not known. Did you mean 'pan-tilt'?"


def test_others_add_data_through_a_package(tmp_path, monkeypatch):
    package = tmp_path / "acme_units_of_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "acme-arm.yaml").write_text("unit: acme-arm\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("acme", "acme_units_of_test", "haihe.units")
    monkeypatch.setattr(registry, "_entry_points", lambda group: [entry])
    assert registry.find_data("unit", "acme-arm") == package / "acme-arm.yaml"
