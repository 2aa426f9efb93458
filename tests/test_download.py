"""Downloads from a server of the test's own: resuming, checksums, and one clear error for each way it can go wrong."""

import errno
import fcntl
import hashlib
from collections import namedtuple

import pytest
from file_server import CONTENT, server  # noqa: F401
from typer.testing import CliRunner

from ups.cli.data import app
from ups.data import download as module
from ups.data.catalogue import CATALOGUE, SUPERSEDED, PublishedFile, check_published
from ups.data.download import download, fetch
from ups.errors import DataError


@pytest.fixture
def file(server):  # noqa: F811
    url = f"http://127.0.0.1:{server.server_port}/datafile/1"
    return PublishedFile("a.hdf5", "burgers", url, hashlib.md5(CONTENT).hexdigest(), len(CONTENT))


def test_fresh_download(server, file, tmp_path):  # noqa: F811
    path = download(file, tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.hdf5"]
    download(file, tmp_path / "new")
    assert server.requests == [None]  # a complete file is checked, not fetched again


@pytest.mark.parametrize("have", [1, 500_000, len(CONTENT) - 1, len(CONTENT)])
def test_resumes_where_it_stopped(server, file, tmp_path, have):  # noqa: F811
    (tmp_path / "a.hdf5.part").write_bytes(CONTENT[:have])
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests == [f"bytes={have}-"]


def test_broken_connections_are_continued(server, file, tmp_path):  # noqa: F811
    server.cut = 300_000
    assert download(file, tmp_path, pause=0).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_server_without_ranges_starts_again(server, file, tmp_path, capsys):  # noqa: F811
    server.ranges = False
    (tmp_path / "a.hdf5.part").write_bytes(b"x" * 1000)
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert "does not resume" in capsys.readouterr().out


def test_wrong_checksum(server, file, tmp_path):  # noqa: F811
    (tmp_path / "a.hdf5.part").write_bytes(b"x" * 1000)  # a damaged beginning, continued
    with pytest.raises(DataError, match=f"the publisher states {file.md5}"):
        download(file, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_another_file_of_that_name_is_left_alone(server, file, tmp_path):  # noqa: F811
    (tmp_path / "a.hdf5").write_bytes(b"mine")
    with pytest.raises(DataError, match="exists, but its MD5"):
        download(file, tmp_path)
    assert (tmp_path / "a.hdf5").read_bytes() == b"mine"
    assert server.requests == []


def test_no_network(server, file, tmp_path):  # noqa: F811
    dead = PublishedFile(file.name, file.equation, "http://127.0.0.1:9/1", file.md5, file.payload_bytes)
    (tmp_path / "a.hdf5.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match=r"cannot be reached .*refused.*1,000 bytes have arrived and are kept"):
        download(dead, tmp_path, pause=0)
    assert (tmp_path / "a.hdf5.part").read_bytes() == CONTENT[:1000]


def test_errors_of_the_server(server, file, tmp_path):  # noqa: F811
    server.status = 404
    with pytest.raises(DataError, match="answers 404 Not Found"):
        download(file, tmp_path, pause=0)
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(DataError, match=r"cannot be reached .Service Unavailable"):
        download(file, tmp_path, pause=0)
    assert len(server.requests) == 1 + 5


def test_too_little_space(server, file, tmp_path, monkeypatch):  # noqa: F811
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10, 9, 1000))
    with pytest.raises(DataError, match="needs 1,024,000 more bytes, but only 1,000 are free"):
        download(file, tmp_path)


def test_the_disk_fills_up_on_the_way(server, file, tmp_path, monkeypatch):  # noqa: F811
    def full(response):
        yield CONTENT[:1000]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_blocks", full)
        with pytest.raises(DataError, match="the disk is full"):
            download(file, tmp_path)
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-"]


def test_two_downloads_do_not_mix(server, file, tmp_path):  # noqa: F811
    with (tmp_path / "a.hdf5.part").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            download(file, tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(DataError, match=r"Did you mean '1D_Burgers_Sols_Nu0.001.hdf5'"):
        fetch("1D_Burgers_Nu0.001.hdf5", tmp_path)


def test_catalogue_is_consistent(tmp_path, monkeypatch):
    assert len(CATALOGUE) == 12 + 8 + 5 + 16
    assert len({f.md5 for f in CATALOGUE.values()} | SUPERSEDED) == len(CATALOGUE) + len(SUPERSEDED)
    assert len({f.url for f in CATALOGUE.values()}) == len(CATALOGUE)
    assert CATALOGUE["1D_Burgers_Sols_Nu0.001.hdf5"].md5 == "44cb784d5a07aa2b1c864cabdcf625f9"
    assert CATALOGUE["1D_Burgers_Sols_Nu0.001.hdf5"].payload_bytes == pytest.approx(8.23e9, rel=1e-3)
    assert all(len(digest) == 32 for digest in SUPERSEDED)


def test_withdrawn_files_are_refused_by_checksum(tmp_path, monkeypatch):
    path = tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5"
    path.write_bytes(b"old")
    assert check_published(path) == "differs"
    monkeypatch.setattr("ups.data.catalogue.SUPERSEDED", {hashlib.md5(b"old").hexdigest()})
    with pytest.raises(DataError, match="withdrawn in 2023"):
        check_published(path)


def test_commands(server, file, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(CATALOGUE, file.name, file)
    run = CliRunner().invoke
    result = run(app, ["fetch", "a.hdf5", "--folder", str(tmp_path)])
    assert result.exit_code == 0
    assert (tmp_path / "a.hdf5").read_bytes() == CONTENT
    listed = run(app, ["list", "--folder", str(tmp_path), "--size"]).stdout.splitlines()
    assert len(listed) == len(CATALOGUE) + 1
    assert listed[-2].endswith("0.001 GB on disk  here")
    assert isinstance(run(app, ["fetch", "b"]).exception, DataError)
