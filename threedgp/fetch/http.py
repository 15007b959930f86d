"""Requests to web servers, what their answers mean, and retries with exponential back-off.

HTTPX takes proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and certificates (SSL_CERT_FILE) from the environment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2

from threedgp import __version__
from threedgp.runtime.addresses import is_web_address, shown

Result = TypeVar("Result")

MAX_REDIRECTS = 10
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
LOGIN_STATUS = {401, 403, 407}


class TransientError(Exception):
    """A failure that may pass: the request is worth repeating, after the seconds that the server named if any."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class ContentChanged(TransientError):
    """The file on the server has changed since a part of it was downloaded."""


class PermanentError(Exception):
    """A failure for which the request is not repeated (any more); `unanswered` if no attempt got a clear answer."""

    def __init__(self, reason: str, *, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.unanswered = unanswered


@dataclass(frozen=True)
class RetryPolicy:
    """Limits for attempts and times; all times are in seconds."""

    max_attempts: int = 6  # in a row, without progress
    first_delay: float = 1.0  # after the first failure; doubled after each further one
    max_delay: float = 60.0
    max_retry_after: float = 600.0  # a server that asks for a longer pause is given up
    connect_timeout: float = 15.0
    read_timeout: float = 60.0  # without a single byte, after which a connection counts as dead
    sleep: Callable[[float], object] = time.sleep

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row. The jitter keeps many machines from retrying at once."""
        return min(self.max_delay, self.first_delay * 2 ** (failures - 1)) * random.uniform(0.5, 1)

    def run(self, action: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
        """Run `action` until it succeeds. `progress()`, such as the number of bytes on disk, grows with each attempt
        that achieves something.

        Raises:
            PermanentError: raised by `action`, or after `max_attempts` failures in a row.
        """
        failures, best = 0, progress()
        while True:
            try:
                return action()
            except TransientError as error:
                if progress() > best:
                    failures, best = 0, progress()
                failures += 1
                pause = self.delay(failures) if error.retry_after is None else error.retry_after
                if failures >= self.max_attempts:
                    raise PermanentError(f"{error} ({failures} attempts)", unanswered=True) from None
                if pause > self.max_retry_after:
                    raise PermanentError(f"{error}; try again in {pause:.0f} s", unanswered=True) from None
                self.sleep(pause)


def open_client(
    policy: RetryPolicy, before_request: Callable[[httpx2.Request], None] = lambda request: None
) -> httpx2.Client:
    """A client, which threads may share; it calls `before_request` before each request, redirects included."""

    def check(request: httpx2.Request) -> None:
        if not is_web_address(str(request.url)):
            raise PermanentError(f"{shown(str(request.url))} is not a web address")
        before_request(request)

    return httpx2.Client(
        # Ranges and lengths must count the bytes of the file, not those of a compressed form of it.
        headers={"User-Agent": f"threedgp/{__version__}", "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(policy.read_timeout, connect=policy.connect_timeout),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        event_hooks={"request": [check]},
    )


@contextmanager
def open_url(client: httpx2.Client, url: str, headers: dict[str, str] | None = None) -> Iterator[httpx2.Response]:
    """Response of a GET request, with status 200 or 206, whose body is still to be read within the context.

    Raises:
        TransientError: no answer, a broken connection, or an answer that may change.
        PermanentError: a lasting answer: the file does not exist, a login is needed, ...
    """
    try:
        with client.stream("GET", url, headers=headers) as response:
            _check_status(response)
            yield response
    except (httpx2.InvalidURL, UnicodeError):
        raise PermanentError("this is not a valid address") from None
    except httpx2.TooManyRedirects:
        raise PermanentError(f"more than {MAX_REDIRECTS} redirects") from None
    except httpx2.TransportError as error:
        bad_redirect = isinstance(error.__context__, httpx2.InvalidURL | UnicodeError)
        if bad_redirect or isinstance(error, httpx2.UnsupportedProtocol):
            raise PermanentError("the server redirects to something that is not a web address") from None
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise PermanentError(f"{error}; if a proxy signs here, set SSL_CERT_FILE to its certificates") from None
        silent = isinstance(error, httpx2.ReadTimeout)
        reason = f"no data for {client.timeout.read:g} s" if silent else str(error) or type(error).__name__
        raise TransientError(reason) from None


def _check_status(response: httpx2.Response) -> None:
    code = response.status_code
    status = f"HTTP {code} {response.reason_phrase}".strip()
    if code == 416:
        raise ContentChanged("the file has become shorter", retry_after=0)
    if code in TRANSIENT_STATUS:
        raise TransientError(status, _seconds(response.headers.get("Retry-After", "")))
    if code not in (200, 206):
        raise PermanentError(f"{status}: needs a login" if code in LOGIN_STATUS else status)


def _seconds(retry_after: str) -> float | None:
    """Seconds that a `Retry-After` header asks for, which is a number or a date."""
    if retry_after.isascii() and retry_after.isdigit():
        return int(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
