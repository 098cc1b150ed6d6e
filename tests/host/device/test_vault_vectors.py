"""The fixtures of the vault's formats are what their program writes, unedited.
tests/unit/vault/test_vault_vectors.py reads them."""

import importlib.util
from pathlib import Path


def test_made_by_their_program(repo: Path) -> None:
    path = repo / "tests" / "vectors" / "make_vault.py"
    spec = importlib.util.spec_from_file_location("make_vault", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.files()
    assert len(made) == 3
    for name, content in made.items():
        assert (path.parent / name).read_text() == module.text(content), name
