"""Who may do what: bearer tokens kept as hashes, and checks against other people's web pages.

In: the headers of a request. Out: the `Token` behind it, or a refusal. Tokens come in the `Authorization` header alone:
those in addresses reach logs. Without a token file everyone who reaches the port may do everything, which is allowed on
the loopback address only, or with `--open true`. Cookies change nothing, so a foreign page has nothing to use; requests
that a browser marks as another site's are refused all the same, and so are host names that nobody gave this server,
which stops rebinding of DNS names.
"""

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.serve.options import Settings

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "admin")
FREE_TRIES, SLOWEST = 5, 300.0
"""Wrong tokens of one address that cost nothing; the longest wait after more of them, in seconds."""
BOARD_COOKIE, BOARD_SECONDS = "egrecho_board", 3600.0
FAR_AWAY = 10_000
"""Addresses remembered at most."""


@dataclass(frozen=True)
class Token:
    """What is known of a token."""

    name: str
    """Of the person or program; jobs belong to it."""
    sha256: str
    role: Role = "write"
    """read: look; write: also start, stop, delete its own jobs; admin: see those of all."""
    expires: float | None = None
    """Unix time."""

    def may(self, role: Role) -> bool:
        """Tell whether it allows what a role allows."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = Token("local", "", "admin")
"""Everyone, where no token is needed."""


class Refusal(Exception):
    """A request that is not let in.

    Args:
        status: Of HTTP.
        code: A word for programs.
        message: A sentence for people.
        headers: Of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


class Gate:
    """Let requests in.

    Args:
        settings: Of the server.

    Raises:
        ConfigError: Others than this machine could reach it without a token.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.tokens = read_tokens(settings.tokens) if settings.tokens else []
        self.needed = bool(self.tokens) and not settings.open
        if not settings.local_only and not self.needed and not settings.open:
            raise ConfigError(
                f"host {settings.host} lets others reach this server without a token; make one with "
                "--new_token NAME --tokens FILE and give --tokens FILE, or let everyone in with --open true"
            )
        self.boards: dict[str, tuple[Token, str, float]] = {}
        self.failures: dict[str, tuple[int, float]] = {}
        self.guard = threading.Lock()

    def token(self, headers: Mapping[str, str], address: str) -> Token:
        """Return the token of a request.

        Raises:
            Refusal: 401 without a good one, 429 after too many wrong ones.
        """
        if not self.needed:
            return LOCAL
        challenge = {"WWW-Authenticate": 'Bearer realm="egrecho"'}
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            raise Refusal(401, "token_needed", "send the header Authorization: Bearer TOKEN", challenge)
        self.check_pace(address)
        digest = hashlib.sha256(value.strip().encode()).hexdigest()
        found = None
        for token in self.tokens:  # all of them, so that the time is the same
            if hmac.compare_digest(token.sha256, digest):
                found = token
        if found is None or (found.expires is not None and found.expires < time.time()):
            self.note_failure(address)
            raise Refusal(401, "token_wrong", "this token is unknown or has expired", challenge)
        with self.guard:
            self.failures.pop(address, None)
        return found

    def open_board(self, token: Token, id: str) -> str:
        """Return a cookie's value for looking at one job's TensorBoard: links inside its page carry no header."""
        value = secrets.token_urlsafe(32)
        with self.guard:
            self.boards = {key: kept for key, kept in self.boards.items() if kept[2] > time.monotonic()}
            self.boards[value] = (token, f"/v1/jobs/{id}/tensorboard/", time.monotonic() + BOARD_SECONDS)
        return value

    def ticket(self, headers: Mapping[str, str], method: str, path: str) -> Token | None:
        """Return whose TensorBoard cookie a request has, if it only looks at that one board."""
        found = re.search(rf"(?:^|;\s*){BOARD_COOKIE}=([\w-]+)", headers.get("cookie", ""))
        token, below, until = self.boards.get(found[1] if found else "", (None, "", 0.0))
        fits = token is not None and path.startswith(below) and until > time.monotonic() and method in ("GET", "HEAD")
        return Token(token.name, "", "read") if fits else None

    def check_pace(self, address: str) -> None:
        """Refuse an address that tries tokens, longer each time."""
        with self.guard:
            count, until = self.failures.get(address, (0, 0.0))
        wait = until - time.monotonic()
        if count > FREE_TRIES and wait > 0:
            raise Refusal(429, "too_many_tries", "too many wrong tokens; wait", {"Retry-After": str(int(wait) + 1)})

    def note_failure(self, address: str) -> None:
        """Count a wrong token of an address."""
        with self.guard:
            if len(self.failures) >= FAR_AWAY:
                self.failures.pop(next(iter(self.failures)))
            count = self.failures.pop(address, (0, 0.0))[0] + 1
            wait = min(2.0 ** max(count - FREE_TRIES, 0), SLOWEST)
            self.failures[address] = (count, time.monotonic() + wait)

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a host name that is not this server's.

        Raises:
            Refusal: 421.
        """
        host = host_of(headers.get("host", ""))
        if not is_known(host, self.settings):
            raise Refusal(421, "unknown_host", f"this server is not {host[:100]!r}; its owner can add it with --hosts")

    def check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another site sends; reading is left to the browser's own rule.

        Raises:
            Refusal: 403.
        """
        if method in ("GET", "HEAD", "OPTIONS"):
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        same = origin is None or (urlsplit(origin).netloc or "?") == headers.get("host", "")
        if not same or site not in ("none", "same-origin"):
            raise Refusal(403, "cross_site", "requests of other sites' pages are refused")


def host_of(header: str) -> str:
    """Return the name or address of a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if re.fullmatch(r".*:\d+", header) else header


def is_known(host: str, settings: Settings) -> bool:
    """Tell whether a host is an address, this machine, or a name that the owner gave."""
    host = host.lower().rstrip(".")
    try:
        ipaddress.ip_address(host)
        return True  # an address cannot be rebound
    except ValueError:
        pass
    known = ("localhost", settings.host.lower(), *(name.lower() for name in settings.hosts))
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in known)


def read_tokens(path: Path) -> list[Token]:
    """Read a token file.

    Raises:
        DataError: It is missing, or no list of tokens.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [Token(**row) for row in rows]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such token file; make one with --new_token NAME --tokens {path}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: no list of tokens ({error}); make a new one with --new_token") from error
    for token in found:
        if token.role not in ROLES or not re.fullmatch(r"[0-9a-f]{64}", token.sha256):
            raise DataError(f"{path}: token {token.name!r} has a wrong role or hash; roles are {', '.join(ROLES)}")
    return found


def new_token(path: Path, name: str, role: Role, days: float | None = None) -> str:
    """Make a token and add its hash to a file that only its owner reads; return the token, which is kept nowhere."""
    if not re.fullmatch(r"[\w.@-]{1,64}", name):
        raise ConfigError(f"token name {name!r}: use up to 64 letters, digits and ._@-")
    secret = secrets.token_urlsafe(32)
    expires = time.time() + 86400 * days if days is not None else None
    known = read_tokens(path) if path.is_file() else []
    rows = [
        asdict(token) for token in (*known, Token(name, hashlib.sha256(secret.encode()).hexdigest(), role, expires))
    ]
    with atomic_file(path) as file:
        file.write(f"{json.dumps(rows, indent=1)}\n".encode())
    path.chmod(0o600)
    return secret
