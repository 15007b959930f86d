"""Files of web servers: ranges, redirects, tokens, and what answers and failures mean.

`requests` speaks the protocol and takes proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), certificates (REQUESTS_CA_BUNDLE)
and passwords (~/.netrc) from the environment.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import requests
import urllib3

from threedgp import __version__
from threedgp.fetch import hub
from threedgp.fetch.content import CHUNK, Version
from threedgp.fetch.patience import Changed, Patience, Refused, Trouble
from threedgp.fetch.remote import is_web_address, shown

MOST_REDIRECTS = 10
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one the next time."""
ABSENT = {404, 410}
LOGIN = {401, 403, 407}
READ_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
"""What reading raises; ValueError when another thread has closed the connection."""
NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)
"""What asking raises at an address that cannot be one."""


class Web:
    """Connections to web servers, for one thread.

    Args:
        before_request: called with each address just before it is asked, redirects included.
    """

    def __init__(self, patience: Patience, before_request: Callable[[str], None] = lambda url: None) -> None:
        self._patience, self._before = patience, before_request
        self._session = _Session()
        # Ranges and lengths must count the bytes of the file, not those of a compressed form of it.
        self._session.headers.update({"User-Agent": f"threedgp/{__version__}", "Accept-Encoding": "identity"})
        self._open: requests.Response | None = None

    def open(self, url: str, start: int = 0, earlier: Version | None = None) -> WebContent:
        """Open `url` at byte `start`.

        Args:
            earlier: version that the bytes before `start` came from; another one is not continued.

        Raises:
            Trouble: no answer, or one that may change.
            Refused: a lasting answer: no such file, a login is needed, ...
        """
        headers = {}
        if start:
            headers["Range"] = f"bytes={start}-"
            # A weak ETag is no promise about bytes, and servers must not accept it here (RFC 9110, 13.1.5).
            strong = earlier and earlier.etag and not earlier.etag.startswith("W/")
            condition = earlier and (earlier.etag if strong else earlier.modified)
            if condition:
                headers["If-Range"] = condition
        response = self._follow("GET", url, headers)
        self._open = response
        try:
            return WebContent(response, start, self._patience)
        except BaseException:
            response.close()
            raise

    def size(self, url: str) -> int | None:
        """Bytes of the file, if the server says so without sending it."""
        try:
            response = self._follow("HEAD", url, {})
        except (Trouble, Refused):
            return None
        response.close()
        return _number(response.headers.get("Content-Length")) or None

    def cut(self) -> None:
        """Wake the thread that waits for bytes; called from another one."""
        response = self._open
        if response is not None:
            try:
                response.raw.shutdown()
            except (ValueError, RuntimeError, OSError):  # it has just ended by itself
                return

    def close(self) -> None:
        self._session.close()

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        """Redirects are followed here: who gets the token, and where it may lead, is decided anew at each step."""
        place = hub.at_endpoint(url)
        if not is_web_address(place):
            raise Refused("this is no address" if place == url else "HF_ENDPOINT makes it what is no address")
        for _ in range(MOST_REDIRECTS + 1):
            response = self._ask(method, place, headers)
            target = self._session.get_redirect_target(response)
            if target is None:
                self._judge(response, url)
                return response
            response.close()
            place = target
        raise Refused(f"more than {MOST_REDIRECTS} redirects")

    def _ask(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        self._before(url)
        token = hub.token_for(url)
        try:
            return self._session.request(
                method,
                url,
                headers=headers,
                auth=_Bearer(token) if token else None,
                stream=True,
                allow_redirects=False,
                timeout=(self._patience.connect, self._patience.silence),
            )
        except (requests.ConnectionError, requests.Timeout, *READ_ERRORS) as error:
            if isinstance(error, NO_ADDRESS):
                raise Refused("this is no address") from None
            reason = _why(error, self._patience)
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Refused(f"{reason}; if a proxy signs here, name its certificates in REQUESTS_CA_BUNDLE") from None
            raise Trouble(reason) from None

    @staticmethod
    def _judge(response: requests.Response, url: str) -> None:
        code = response.status_code
        if code in (200, 206):
            return
        response.close()
        said = f"HTTP {code} {response.reason or ''}".strip()
        if code == 416:
            raise Changed("the file has become shorter")
        if code in PASSING:
            raise Trouble(said, wait=_pause(response.headers.get("Retry-After")))
        if code in LOGIN:
            raise Refused(
                hub.why_denied(url, code, response.headers.get("X-Error-Code", "")) or f"{said}: needs a login"
            )
        raise Refused(said, absent=code in ABSENT)


class WebContent:
    """The answer of a server.

    Raises:
        Trouble: it is not what was asked for.
    """

    def __init__(self, response: requests.Response, start: int, patience: Patience) -> None:
        self._response, self._patience = response, patience
        self.url = response.url
        """Where redirects ended."""
        total = _number(response.headers.get("Content-Length"))
        self.start = 0
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not found or int(found[1]) != start:
                raise Changed("the server sent another range than was asked for")
            self.start, total = start, _number(found[2])
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        self.version = Version(total, etag, modified)

    def read(self) -> bytes:
        try:
            # Whatever the server compressed unasked is the file itself, such as a .tar.gz: bytes are left as they come.
            return self._response.raw.read1(CHUNK, decode_content=False) or b""
        except READ_ERRORS as error:
            raise Trouble(_why(error, self._patience)) from None

    def close(self) -> None:
        self._response.close()


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """The whole address that an answer leads to, if it does.

        `request` asks for it too, and fails in several ways at what is no address; so it is refused here.

        Raises:
            Refused: it leads to no web address.
        """
        if not resp.is_redirect:
            return None
        try:
            place = urljoin(resp.url, super().get_redirect_target(resp))
            if is_web_address(place):
                return place
        except ValueError:  # of bytes that are not UTF-8, or of half an IPv6 address
            place = resp.headers["Location"]
        resp.close()
        raise Refused(f"the server redirects to {shown(place)}, which is no web address")


class _Bearer(requests.auth.AuthBase):
    # As an `auth` object, because requests lets ~/.netrc override a mere header.
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _pause(text: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number or a date."""
    number = _number(text)
    if number is not None or not text:
        return number
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _why(error: Exception, patience: Patience) -> str:
    """A failure of the network in a few words."""
    causes = list(_causes(error))

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if among(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return "the proxy does not answer"
    if among(urllib3.exceptions.NameResolutionError):
        return "the name of the host is unknown (is there a network?)"
    if not among(urllib3.exceptions.NewConnectionError):  # a refusal, although to urllib3 it is a kind of time-out
        if among(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
            return f"no connection within {patience.connect:g} s"
        if among(requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            return f"nothing came for {patience.silence:g} s"
    if among(urllib3.exceptions.IncompleteRead, http.client.IncompleteRead):
        return "the connection ended too early"
    innermost = causes[-1]
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    return f"{type(innermost).__name__}: {innermost}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it, innermost last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = [part for part in (getattr(error, "reason", None), *error.args) if isinstance(part, BaseException)]
        error = inner[0] if inner else error.__cause__ or error.__context__
