"""moto's S3 server in this process, behind a door that waits, fails, and cuts answers off."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

NAMES = {400: "BadRequest", 403: "AccessDenied", 404: "NoSuchKey", 429: "SlowDown", 500: "InternalError"}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class S3Server:
    """`faults[key]` are what the next requests for a key meet: a status, `cut` (half the body) or `hang` (no answer).

    `always` is what every request meets whose path contains a text; `lose` is a key whose next PUT is done and answered
    with an error. `requests` counts (method, path), and `most` is how many GETs waited at a time.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.calm()

    def calm(self) -> None:
        self.delay = 0.0
        self.faults: dict[str, list[int | str]] = defaultdict(list)
        self.always: dict[str, int | str] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.most, self._now, self.lose = 0, 0, ""

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        self.requests[method, path] += 1
        self._now += method == "GET"
        self.most = max(self.most, self._now)
        time.sleep(self.delay)
        self._now -= method == "GET"
        waiting = next((queue for key, queue in self.faults.items() if path.endswith(key) and queue), None)
        fault = (
            waiting.pop(0)
            if waiting
            else next((f for text, f in self.always.items() if text in f"{method} {path}"), None)
        )
        if isinstance(fault, int):
            name = NAMES.get(fault, "SlowDown")
            body = f"<Error><Code>{name}</Code><Message>{environ['QUERY_STRING']}</Message></Error>".encode()
            start_response(f"{fault} X", [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
            return [] if method == "HEAD" else [body]
        if fault == "hang":
            raise ConnectionError("werkzeug leaves the connection open")
        if self.lose and method == "PUT" and path.endswith(self.lose):  # done, and answered as if it were not
            list(self._app(environ, lambda *_: None))
            self.lose = ""
            start_response("500 X", [("Content-Length", "0")])
            return []
        answer = list(self._app(environ, start_response))
        return [b"".join(answer)[: sum(map(len, answer)) // 2]] if fault == "cut" else answer
