"""Show a folder of pages to a room without internet: `python deploy/lite/serve.py FOLDER [PORT]`."""

from __future__ import annotations

import gzip
import sys
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PACKED = {".whl", ".zip", ".png", ".woff", ".woff2", ".gz"}  # as small as they get


@cache
def packed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 6)


class Pages(SimpleHTTPRequestHandler):
    """Files, packed on the way: half as much goes over the wire."""

    protocol_version = "HTTP/1.1"
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if self.path.partition("?")[0].endswith("/") else path
        if path.suffix in PACKED or not path.is_file() or "gzip" not in self.headers.get("Accept-Encoding", ""):
            return super().do_GET()
        body = packed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        """A room full of browsers asks for a lot."""


def serve(folder: Path, port: int, host: str = "", pages: type[Pages] = Pages) -> ThreadingHTTPServer:
    """A server for this folder that listens already; `port` 0 is any that is free."""
    return ThreadingHTTPServer((host, port), partial(pages, directory=str(folder)))


if __name__ == "__main__":
    server = serve(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    print(
        f"http://localhost:{server.server_port}/ here; in the room http://THE-NAME-OF-THIS-COMPUTER:{server.server_port}/"
    )
    server.serve_forever()
