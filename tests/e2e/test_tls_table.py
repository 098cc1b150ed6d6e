"""Every server of docs/tls-servers.md gets the error that the page says, and the page is whole."""

import warnings
from pathlib import Path

import tls_table


def test_every_server_gets_its_error(
    micropython: str, repo: Path, umqtt_path: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is to be refused
        table = tls_table.Table(tmp_path)
    assert len(table.servers) >= 60
    answers = table.connect(micropython, repo / "lib", umqtt_path)
    wrong = list(tls_table.wrong(table, answers))
    assert not wrong, "\n".join(wrong)
    assert tls_table.written() == tls_table.rendered(table), "run `make tls-table`"
