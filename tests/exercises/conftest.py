"""Every exercise test has an empty record of its own; those of a file's banks run once for each exercise."""
import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINIMASKFORMER_STRICT", raising=False)
    return tmp_path / "home"


def pytest_generate_tests(metafunc):
    if "exercise_id" in metafunc.fixturenames:
        metafunc.parametrize("exercise_id", sorted(metafunc.module.RIGHT))
