"""Downloads from a local server that breaks off, ignores ranges, reports wrong values, refuses or is absent."""

from __future__ import annotations

import hashlib
import http.server
import json
import random
import re
import socket
import threading
from pathlib import Path

import pytest

from ctt.core.errors import DataError, Interrupted
from ctt.data.clevrer import downloads as fetching
from ctt.data.clevrer.downloads import Download, downloads, fetch
from ctt.data.data_settings import FetchSettings

BODY = random.Random(0).randbytes(3_000_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Server:
    """Serves `body` at every path; its faults are attributes. `requests` lists the Range headers received."""

    def __init__(self) -> None:
        self.body, self.etag, self.ranges, self.length = BODY, '"v1"', True, True
        self.break_after: list[int] = []  # bytes after which the next answers break off
        self.status: list[int] = []  # statuses of the next answers
        self.reason: str | None = None  # the reason phrase of an error
        self.stated: str | None = None  # the stated length of the file
        self.linked: str | None = None  # the checksum that the hub states
        self.heads: list[int] = []  # statuses of the hub's next answers about a file
        self.tokens: list[tuple[str, str | None]] = []  # (host, Authorization) of every request for the hub's file
        self.requests: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def do_HEAD(self):
                outer.head(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/file"

    def redirect(self, handler) -> None:
        """Answers as the hub does for a large file, which is on another host."""
        handler.send_response(302)
        port = self.http.server_address[1]
        handler.send_header("Location", "/loop" if handler.path == "/loop" else f"http://localhost:{port}/real")
        handler.send_header("X-Repo-Commit", "c0ffee")
        handler.send_header("X-Linked-Size", str(len(self.body)))
        handler.send_header("X-Linked-ETag", f'"{self.linked}"')
        handler.send_header("ETag", '"of the redirect"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def head(self, handler) -> None:
        self.requests.append(handler.path)
        if self.heads:
            handler.send_response(self.heads.pop(0))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self.redirect(handler)

    def answer(self, handler) -> None:
        if "/resolve/" in handler.path or handler.path in ("/real", "/loop"):
            self.tokens.append((handler.headers["Host"].split(":")[0], handler.headers.get("Authorization")))
        if "/resolve/" in handler.path or handler.path == "/loop":
            self.redirect(handler)
            return
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.status:
            handler.send_error(self.status.pop(0), self.reason)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if start and handler.headers.get("If-Range") not in (None, self.etag):
            start = 0
        if start >= len(self.body) and start:
            handler.send_error(416)
            return
        rest = self.body[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        if self.length:
            handler.send_header("Content-Length", self.stated or str(len(rest)))
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        if self.break_after:
            rest = rest[: self.break_after.pop(0)]
        handler.wfile.write(rest)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server():
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def get(server, path, **more):
    more.setdefault("attempts", 4)
    return fetch(Download(server.url, path, more.pop("sha256", None)), pause=lambda failed: 0.0, timeout=5, **more)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_complete_and_fetched_once(server, tmp_path):
    reports = []
    path = tmp_path / "deep" / "slots.pkl"
    assert get(server, path, sha256=SHA, progress=lambda done, total: reports.append((done, total))) == "fetched"
    assert path.read_bytes() == BODY and names(path.parent) == ["slots.pkl"]
    assert reports[-1] == (len(BODY), len(BODY)) and reports == sorted(reports)
    assert get(server, path) == "there" and len(server.requests) == 1


def test_a_broken_download_continues_at_the_last_byte(server, tmp_path):
    server.break_after = [1_000_000, 700_000]
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"
    assert (tmp_path / "f").read_bytes() == BODY
    assert server.requests == [None, "bytes=1000000-", "bytes=1700000-"]


def test_the_next_command_continues_too(server, tmp_path):
    server.break_after = [1_000_000, 0, 0]
    with pytest.raises(DataError, match="1000000 bytes are kept; the same command continues there"):
        get(server, tmp_path / "f", attempts=2)
    assert names(tmp_path) == ["f.part", "f.part.json"]
    server.break_after = []
    server.requests.clear()
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"
    assert server.requests == ["bytes=1000000-"] and names(tmp_path) == ["f"]


def test_interruptions_with_progress_are_always_retried(server, tmp_path):
    server.break_after = [100_000] * 25
    assert get(server, tmp_path / "f", sha256=SHA, attempts=2) == "fetched"


def test_a_signal_keeps_the_downloaded_bytes(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "stopping", lambda: True)
    with pytest.raises(Interrupted, match="the same command continues there"):
        get(server, tmp_path / "f")
    monkeypatch.undo()
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"
    assert server.requests[-1] is not None


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    server.ranges, server.break_after = False, [1_000_000]
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"
    assert (tmp_path / "f").read_bytes() == BODY and server.requests == [None, "bytes=1000000-"]


def test_a_server_that_ignores_ranges_and_always_breaks_off_is_an_error(server, tmp_path):
    server.ranges, server.break_after = False, [1_000_000] * 50
    with pytest.raises(DataError, match="broke off after 1000000 of 3000000 bytes"):
        get(server, tmp_path / "f")
    assert len(server.requests) <= 6


def test_a_file_that_changed_is_fetched_anew(server, tmp_path):
    server.break_after = [1_000_000, 0]
    with pytest.raises(DataError):
        get(server, tmp_path / "f", attempts=1)
    server.break_after = []
    server.body, server.etag = BODY[::-1][:2_000_000], '"v2"'
    assert get(server, tmp_path / "f") == "fetched"
    assert (tmp_path / "f").read_bytes() == server.body


def test_a_file_that_became_shorter_without_a_new_etag(server, tmp_path):
    server.etag, server.break_after = "", [1_000_000]
    with pytest.raises(DataError):
        get(server, tmp_path / "f", attempts=1)
    server.body = BODY[:500_000]
    assert get(server, tmp_path / "f") == "fetched"
    assert (tmp_path / "f").read_bytes() == BODY[:500_000]


def from_hub(server, path, name="owner/repository/deep/slots.pkl@v1", **more):
    hub = server.url.removesuffix("/file")
    return fetch(Download(name, path, hub=hub), pause=lambda failed: 0.0, timeout=5, attempts=2, **more)


@pytest.fixture
def token(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("HF_TOKEN", "mine")


@pytest.mark.parametrize("stated", ["beforehand", "by the hub"])
def test_a_wrong_checksum_is_refused_and_deleted(stated, server, tmp_path):
    wrong = server.linked = "0" * 64
    with pytest.raises(DataError, match=f"has the sha256 {SHA[:16]}… instead of 0000.*deleted; fetch it again"):
        if stated == "by the hub":
            from_hub(server, tmp_path / "f")
        else:
            get(server, tmp_path / "f", sha256=wrong)
    assert names(tmp_path) == []


def test_a_broken_download_from_a_hub_continues(server, tmp_path, token):
    server.linked, server.break_after = SHA, [1_000_000, 0, 0]
    with pytest.raises(DataError, match="1000000 bytes are kept; the same command continues there"):
        from_hub(server, tmp_path / "f")
    server.break_after = []
    server.requests.clear()
    assert from_hub(server, tmp_path / "f") == "fetched"
    assert (tmp_path / "f").read_bytes() == BODY and names(tmp_path) == ["f"]
    assert server.requests == ["/owner/repository/resolve/v1/deep/slots.pkl", "bytes=1000000-"]
    assert set(server.tokens) == {("127.0.0.1", "Bearer mine"), ("localhost", None)}, "no other host gets the token"


def test_a_changed_file_of_a_hub_is_fetched_anew(server, tmp_path):
    server.linked, server.etag, server.break_after = SHA, "", [1_000_000, 0, 0]
    with pytest.raises(DataError):
        from_hub(server, tmp_path / "f")
    server.break_after, server.body = [], BODY[::-1]
    server.linked = hashlib.sha256(server.body).hexdigest()
    assert from_hub(server, tmp_path / "f") == "fetched" and (tmp_path / "f").read_bytes() == server.body


@pytest.mark.parametrize(
    ("code", "message"),
    [(401, "hf auth login"), (403, "set HF_TOKEN"), (404, "it may have moved"), (500, "answers 500")],
)
def test_the_refusal_of_a_hub_is_reported_on_one_line(code, message, server, tmp_path):
    server.heads = [code] * 9
    with pytest.raises(DataError, match=message) as refused:
        from_hub(server, tmp_path / "f")
    assert "slots.pkl" in str(refused.value) and str(refused.value).isprintable() and names(tmp_path) == []


def test_an_absent_hub_and_a_malformed_name(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DataError, match="cannot be reached .*check the network"):
        fetch(Download("a/b/c", tmp_path / "f", hub=f"http://127.0.0.1:{port}"), pause=lambda failed: 0.0)
    with pytest.raises(DataError, match=r"'slots.pkl' .* is neither an address nor OWNER/REPOSITORY/FILE"):
        from_hub(server, tmp_path / "f", name="slots.pkl")


def test_slots_are_named_by_hub_or_address() -> None:
    settings = FetchSettings(slots_videosaur="a/b/c.pkl", slots_savi="http://x/c.pkl", hub="http://mirror")
    assert [downloads(settings, "slots", one)[0].hub for one in ("videosaur", "savi")] == ["http://mirror", None]


def test_a_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY)
    meta = dict(url=server.url, total=len(BODY), etag='"v1"', sha256=SHA)
    (tmp_path / "f.part.json").write_text(json.dumps(meta))
    assert get(server, tmp_path / "f") == "fetched" and server.requests == []
    (tmp_path / "g.part").write_bytes(BODY[:-1] + b"x")
    (tmp_path / "g.part.json").write_text(json.dumps({**meta, "sha256": SHA}))
    with pytest.raises(DataError, match="arrived damaged"):
        get(server, tmp_path / "g")


@pytest.mark.parametrize("note", ["", "[]", '{"url": "http://other/", "total": 5, "etag": "", "sha256": null}'])
def test_parts_of_another_file_are_not_continued(note, server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"rubbish")
    (tmp_path / "f.part.json").write_text(note)
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"


def test_a_server_without_a_length(server, tmp_path):
    server.length = False
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"


def test_a_length_that_is_no_number_is_ignored(server, tmp_path):
    server.stated = "many"
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"


@pytest.mark.parametrize("code", [401, 403, 410])
def test_a_refusal_is_reported_on_one_line(code, server, tmp_path):
    server.status, server.reason = [code], "No\tway \x0b here"
    with pytest.raises(DataError, match=f"answers {code} No way here. Or download it elsewhere") as refused:
        get(server, tmp_path / "f")
    assert str(refused.value).isprintable() and len(server.requests) == 1


def test_an_address_that_redirects_to_itself(server, tmp_path):
    server.url = server.url.replace("/file", "/loop")
    with pytest.raises(DataError, match="infinite loop") as refused:
        get(server, tmp_path / "f")
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_reported_at_once_with_the_remedy(server, tmp_path):
    server.status = [404, 200]
    with pytest.raises(DataError, match=r"answers 404 .*data\.fetch.*put it at .*/f"):
        get(server, tmp_path / "f")
    assert len(server.requests) == 1 and names(tmp_path) == []


def test_server_errors_are_retried(server, tmp_path):
    server.status = [503, 500, 429]
    assert get(server, tmp_path / "f", sha256=SHA) == "fetched"
    server.status = [503] * 9
    with pytest.raises(DataError, match="answers 503"):
        get(server, tmp_path / "g")
    assert len(server.requests) == 8


def test_a_missing_network_is_reported(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=r"cannot be reached \(.*refused.*check the network\. Or download it elsewhere"):
        fetch(Download(f"http://127.0.0.1:{port}/x", tmp_path / "f"), pause=lambda failed: 0.0)
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(Download("http://no.such.host.invalid/x", tmp_path / "f"), pause=lambda failed: 0.0)
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(Download("nothing://x/y", tmp_path / "f"), pause=lambda failed: 0.0)


def test_a_write_error_is_reported(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        get(server, tmp_path / "file" / "f")


def test_downloads_by_kind(tmp_path):
    settings = FetchSettings(str(tmp_path), "http://h/v.pkl", "http://h/s.pkl", "http://h/q/{split}.json", "http://h/a/{split}.zip")
    settings.checkpoints = "http://h/{encoder}_{masked}.ckpt"
    urls = {kind: [(d.url, d.path.relative_to(tmp_path).as_posix()) for d in downloads(settings, kind)] for kind in fetching.KINDS}
    assert urls == {
        "slots": [("http://h/v.pkl", "clevrer_videosaur_slots.pkl")],
        "questions": [(f"http://h/q/{s}.json", f"questions/{s}.json") for s in ("train", "validation", "test")],
        "annotations": [(f"http://h/a/{s}.zip", f"annotations/annotation_{s}.zip") for s in ("train", "validation")],
        "checkpoints": [(f"http://h/{e}_{n}.ckpt", f"checkpoints/{e}_{n}.ckpt") for e in ("videosaur", "savi") for n in range(5)],
    }
    assert downloads(settings, "slots", "savi")[0].url == "http://h/s.pkl"
    with pytest.raises(DataError, match="data.fetch.questions has no address"):
        downloads(FetchSettings(), "questions")
    with pytest.raises(DataError, match=r"must contain \{split\}"):
        downloads(FetchSettings(questions="http://h/q.json"), "questions")
