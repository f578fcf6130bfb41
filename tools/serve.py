"""Serve a folder on this machine only: ``python tools/serve.py FOLDER [PORT]``.

Where the port is taken, the next free one serves.
"""

import functools
import http.server
import sys


def listen(folder: str, port: int) -> http.server.ThreadingHTTPServer:
    """Open the first free port from ``port`` on; ``0`` lets the system choose."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    for candidate in range(port, port + 20):
        try:
            return http.server.ThreadingHTTPServer(("127.0.0.1", candidate), handler)
        except OSError:
            continue
    sys.exit(f"no free port between {port} and {port + 19}; choose another: make serve PORT=9000")


def main() -> None:
    """Serve until Ctrl-C."""
    server = listen(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    print(f"The book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
