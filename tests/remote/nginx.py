"""nginx on the loopback, serving a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.remote.s3 import free_port, wait_for

__all__ = ["NGINX", "nginx_server"]

# Debian has it where ordinary users do not look.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def nginx_server(folder: Path) -> Iterator[str]:
    """Run one that serves a folder; gives the folder's address."""
    assert NGINX is not None
    port = free_port()
    with tempfile.TemporaryDirectory() as own:
        Path(own, "nginx.conf").write_text(f"""
            daemon off; pid {own}/pid; error_log {own}/log; {"user root;" if os.geteuid() == 0 else ""}
            events {{}}
            http {{
                access_log off; sendfile on;
                client_body_temp_path {own}/a; proxy_temp_path {own}/b; fastcgi_temp_path {own}/c;
                uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;
                server {{ listen 127.0.0.1:{port}; root {folder}; }}
            }}""")
        process = subprocess.Popen([NGINX, "-c", f"{own}/nginx.conf", "-e", f"{own}/log"])
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
