"""Requests to web servers, and what their answers mean.

HTTPX takes proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and certificates (SSL_CERT_FILE) from the environment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx2

from threedgp import __version__
from threedgp.fetch.retry import PermanentError, RetryPolicy, TransientError
from threedgp.runtime.addresses import is_web_address, shown

MAX_REDIRECTS = 10
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
LOGIN_STATUS = {401, 403, 407}


class ContentChanged(TransientError):
    """The file on the server has changed since a part of it was downloaded; the download starts over at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retry_after=0)


def open_client(
    policy: RetryPolicy, before_request: Callable[[httpx2.Request], None] = lambda request: None
) -> httpx2.Client:
    """A client, which threads may share.

    Args:
        before_request: called before each request, redirects included.
    """

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
    if code in (200, 206):
        return
    status = f"HTTP {code} {response.reason_phrase}".strip()
    if code == 416:
        raise ContentChanged("the file has become shorter")
    if code in TRANSIENT_STATUS:
        raise TransientError(status, _seconds(response.headers.get("Retry-After", "")))
    raise PermanentError(f"{status}: needs a login" if code in LOGIN_STATUS else status)


def _seconds(retry_after: str) -> float | None:
    """Seconds that a `Retry-After` header asks for, which is a number or a date."""
    if retry_after.isascii() and retry_after.isdigit():
        return int(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
