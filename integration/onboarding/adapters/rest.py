"""JSON over HTTP with the standard library: bounded in time and size, and a token never leaves its host."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

__all__ = ["Answer", "NoAnswer", "ask", "is_http"]

MAX_BYTES = 16 * 2**20


class NoAnswer(Exception):
    """Nobody answered in time, or what came was cut off, too long or not JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, whatever the status.

    Attributes:
        headers: Names in lower case.
        data: The parsed JSON; None when a status of 400 or more has none.
    """

    status: int
    headers: Mapping[str, str]
    data: object

    @property
    def retry_at(self) -> datetime | None:
        """When the server wants to be asked again, by its Retry-After."""
        said = self.headers.get("retry-after", "").strip()
        if said.isdigit():
            return datetime.now(UTC) + timedelta(seconds=min(int(said[:9]), 7 * 86400))
        try:
            return parsedate_to_datetime(said).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            return None

    @property
    def message(self) -> str:
        """The server's own words for what went wrong, shortened; its status when it has none."""
        error = self.data.get("error", self.data) if isinstance(self.data, dict) else None
        text = error.get("message") if isinstance(error, dict) else error
        return text[:300] if isinstance(text, str) and text else f"HTTP status {self.status}"


def is_http(url: str) -> bool:
    """urllib also opens files, which nobody should reach by typing an address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    clean = url.isascii() and url.isprintable() and " " not in url
    return clean and parts.scheme in ("http", "https") and bool(parts.hostname)


class _SameHostOnly(HTTPRedirectHandler):
    """urllib sends the Authorization header on to wherever it is sent."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if req.get_method() != "GET" or urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, *, token: str = "", body: object = None, timeout: timedelta) -> Answer:
    """GET, or POST when there is a body.

    Args:
        url: http or https; see `is_http`.
        token: Sent as a bearer token.
        body: Sent as JSON.
        timeout: For the whole exchange, not for each packet.

    Raises:
        NoAnswer: There is no answer that can be read.
    """
    request = Request(url, headers=_headers(token), data=None if body is None else json.dumps(body).encode())
    deadline = time.monotonic() + timeout.total_seconds()
    try:
        with _opened(request, timeout) as response:
            headers = {key.lower(): value for key, value in response.headers.items()}
            status = response.status or 0
            return Answer(status, headers, _json(_read(response, deadline), status))
    except (OSError, HTTPException) as error:
        raise NoAnswer(str(getattr(error, "reason", error)) or type(error).__name__) from error
    except ValueError:
        # The message of http.client shows the token.
        raise NoAnswer("the address or the token has characters that HTTP does not allow") from None


def _headers(token: str) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "onboarding"}
    return headers | {"Authorization": f"Bearer {token}"} if token else headers


def _opened(request: Request, timeout: timedelta) -> HTTPResponse | HTTPError:
    """A status of 400 or more is an answer too, not an exception."""
    try:
        response: HTTPResponse = build_opener(_SameHostOnly).open(request, timeout=timeout.total_seconds())
    except HTTPError as error:
        return error
    return response


def _read(response: HTTPResponse | HTTPError, deadline: float) -> bytes:
    content = b""
    while chunk := response.read1(65536):
        content += chunk
        if len(content) > MAX_BYTES:
            raise NoAnswer(f"the answer is longer than {MAX_BYTES // 2**20} MiB")
        # The socket's timeout begins anew with each packet.
        if time.monotonic() > deadline:
            raise NoAnswer("the answer took too long")
    return content


def _json(content: bytes, status: int) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        if status >= 400:
            return None
        raise NoAnswer("the answer is not JSON") from error
