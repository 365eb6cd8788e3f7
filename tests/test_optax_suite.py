"""What `make test-optax` lets differ from Optax is in the documentation; the command itself takes minutes."""

from tests.optax_suite import differences


def test_each_difference_is_documented(monkeypatch) -> None:
    assert differences.undocumented() == []
    monkeypatch.setitem(differences.DIFFERENCES, "a test", "nothing that is documented")
    assert differences.undocumented() == ["nothing that is documented"]
