"""Secrets: where they are read from, and that they are never shown."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import threading
from pathlib import Path

import pytest

from holdfast.config.secret import MAX_BYTES, Secret, read_secret_file, read_secret_variable
from holdfast.errors import ConfigError

WORD = "correct horse"


def private(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


def test_is_never_shown() -> None:
    secret = Secret(WORD)
    texts = (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}", "%s" % secret)  # noqa: UP031 - one way to show it
    assert not any("horse" in text for text in texts)
    assert secret.reveal() == WORD
    assert not hasattr(secret, "__dict__")


def test_does_not_leave_its_process() -> None:
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(Secret(WORD))
    secret = Secret(WORD)
    assert copy.deepcopy([secret])[0] is secret
    assert copy.copy(secret) is secret


def test_equal_by_content() -> None:
    assert Secret(WORD) == Secret(WORD)
    assert Secret(WORD) != Secret("other")
    assert Secret(WORD) != WORD
    assert len({Secret(WORD), Secret(WORD)}) == 1


@pytest.mark.parametrize("data", [b"word", b"word\n", b"word\r\n", b"  word \t\n\n", b"\xef\xbb\xbfword\n"])
def test_reads_a_file_as_restic_does(tmp_path: Path, data: bytes) -> None:
    assert read_secret_file(private(tmp_path / "pw", data), "it").reveal() == "word"


def test_strips_only_what_it_is_told(tmp_path: Path) -> None:
    path = private(tmp_path / "pw", b" wo rd \r\n")
    assert read_secret_file(path, "it", strip="\r\n").reveal() == " wo rd "


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", "an empty file"), (b" \n\t\n", "an empty file"), (b"\xffhush", "not text"), (b"hu\0sh", "not text")],
)
def test_refuses_what_is_no_secret(tmp_path: Path, data: bytes, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_secret_file(private(tmp_path / "pw", data), "the word")
    assert found in str(caught.value)
    assert str(tmp_path / "pw") in str(caught.value)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any("hush" in repr(error) or "hu\\x00sh" in repr(error) for error in chain)


def test_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 64 KiB"):
        read_secret_file(private(tmp_path / "pw", b"x" * (MAX_BYTES + 1)), "it")
    with pytest.raises(ConfigError, match="more than 64 KiB"):
        read_secret_file("/dev/zero", "it")


def test_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_secret_file(str(tmp_path / "none"), "the word")
    assert "the word" in str(caught.value)
    assert "No such file" in str(caught.value)
    assert caught.value.hint == f"ls -l {tmp_path / 'none'}"
    with pytest.raises(ConfigError, match="a directory"):
        read_secret_file(str(tmp_path), "it")
    with pytest.raises(ConfigError, match="a name that no file can have"):
        read_secret_file("a\0b", "it")


def test_refuses_a_file_that_anybody_may_replace(tmp_path: Path) -> None:
    path = private(tmp_path / "pw", b"word")
    os.chmod(path, 0o602)  # noqa: S103 - that it is refused is what is tested
    with pytest.raises(ConfigError, match="0602: anybody may replace it") as caught:
        read_secret_file(path, "it")
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o604, 1)])
def test_warns_of_a_file_that_anybody_may_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: int
) -> None:
    path = private(tmp_path / "pw", b"word")
    os.chmod(path, mode)
    with caplog.at_level(logging.WARNING):
        assert read_secret_file(path, "it").reveal() == "word"
    assert len(caplog.records) == warned
    assert "word" not in caplog.text.replace(path, "")


def test_reads_a_pipe(tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: Path(pipe).write_bytes(b"word\n"))
    writer.start()
    assert read_secret_file(pipe, "it").reveal() == "word"
    writer.join(10)


def test_reads_a_variable_as_it_is() -> None:
    assert read_secret_variable("PW", "it", {"PW": " word\n"}).reveal() == " word\n"
    with pytest.raises(ConfigError, match="environment variable PW: found no such variable"):
        read_secret_variable("PW", "it", {})
    with pytest.raises(ConfigError, match="environment variable PW: found an empty value"):
        read_secret_variable("PW", "it", {"PW": ""})


def test_children_get_no_variable_that_holds_a_secret() -> None:
    from holdfast.model.environment import for_children

    env = {"PATH": "/bin", "HOLDFAST_PASSWORD": "x", "AWS_SECRET_ACCESS_KEY": "y", "MINE": "z", "MY_PASSWORD": "p"}
    assert read_secret_variable("MY_PASSWORD", "the password", env).reveal() == "p"
    assert for_children(env) == {"PATH": "/bin", "MINE": "z"}
