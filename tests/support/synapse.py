"""A real homeserver for tests: Synapse from its own virtual environment, on loopback, offline."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import take_port

SERVER_NAME = "hs.test"
PASSWORD = "a password for tests"

_FREE = "{per_second: 10000, burst_count: 10000}"
NO_LIMITS = f"""
rc_message: {_FREE}
rc_registration: {_FREE}
rc_login: {{address: {_FREE}, account: {_FREE}, failed_attempts: {_FREE}}}
rc_joins: {{local: {_FREE}, remote: {_FREE}}}
rc_joins_per_room: {_FREE}
rc_invites: {{per_room: {_FREE}, per_user: {_FREE}, per_issuer: {_FREE}}}
rc_room_creation: {_FREE}
rc_admin_redaction: {_FREE}
rc_presence: {{per_user: {_FREE}}}
"""

_CONFIG = """
server_name: {name}
public_baseurl: {url}/
report_stats: false
pid_file: {root}/synapse.pid
listeners:
  - port: {port}
    bind_addresses: ["127.0.0.1"]
    type: http
    tls: false
    resources: [{{names: [client], compress: false}}]
database: {{name: sqlite3, args: {{database: "{root}/homeserver.db"}}}}
log_config: {root}/log.yaml
media_store_path: {root}/media
signing_key_path: {root}/signing.key
registration_shared_secret: {secret}
macaroon_secret_key: {secret}
form_secret: {secret}
trusted_key_servers: []
suppress_key_server_warning: true
federation_domain_whitelist: []
enable_registration: false
bcrypt_rounds: 4
"""

_LOG = """
version: 1
handlers: {{file: {{class: logging.FileHandler, filename: {root}/synapse.log, encoding: utf8}}}}
root: {{level: WARNING, handlers: [file]}}
disable_existing_loggers: false
"""


@dataclass(frozen=True)
class Account:
    """A registered user.

    Attributes:
        access_token, device_id: of the login that registering made.
    """

    user_id: str
    password: str
    access_token: str
    device_id: str


def _die_with_parent() -> None:
    # Linux: no homeserver outlives a test run that was killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Synapse:
    """One homeserver with its data in `root`; it can be stopped, killed and started again."""

    def __init__(self, python: str, root: Path, *, port: int = 0, limits: str = NO_LIMITS) -> None:
        """Write the configuration; `limits=""` keeps Synapse's own rate limits."""
        self._python = python
        self._root = root
        self._secret = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or take_port()
        self.url = f"http://127.0.0.1:{self.port}"
        root.mkdir(parents=True, exist_ok=True)
        values = {
            "name": SERVER_NAME,
            "url": self.url,
            "root": root,
            "port": self.port,
            "secret": self._secret,
        }
        (root / "homeserver.yaml").write_text(_CONFIG.format(**values) + limits)
        (root / "log.yaml").write_text(_LOG.format(root=root))
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (root / "signing.key").write_text(f"ed25519 a_test {seed}\n")

    def start(self, timeout_s: float = 60) -> Synapse:
        """Start and wait until it answers."""
        output = self._root / "output.txt"
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                [self._python, "-m", "synapse.app.homeserver", "-c", str(self._root / "homeserver.yaml")],
                cwd=self._root,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # one system call, no Python locks
            )
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"Synapse ended: {output.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                self.stop()
                raise TimeoutError("Synapse does not get ready")
            time.sleep(0.05)
        return self

    def _ready(self) -> bool:
        try:
            return "nonce" in self.api("GET", "/_synapse/admin/v1/register")
        except (OSError, ValueError):
            return False

    def stop(self, *, kill: bool = False) -> None:
        """Stop in good order, or with SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def api(self, method: str, path: str, body: Any = None, token: str = "") -> dict[str, Any]:
        """One request; the decoded answer, errors too."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read() or b"{}"))

    def register(self, name: str) -> Account:
        """Make a user, whose name gets a suffix so that no two tests share one."""
        name = f"{name}-{secrets.token_hex(4)}"
        nonce = self.api("GET", "/_synapse/admin/v1/register")["nonce"]
        parts = [nonce, name, PASSWORD, "notadmin"]
        mac = hmac.new(self._secret.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": False, "mac": mac}
        answer = self.api("POST", "/_synapse/admin/v1/register", body)
        return Account(answer["user_id"], PASSWORD, answer["access_token"], answer["device_id"])


def python_of_synapse() -> str:
    """The interpreter that has Synapse, from the environment; empty where there is none."""
    return os.environ.get("HUSKIES_SYNAPSE_PYTHON", "")
