"""Opening an address: http and https alone, and redirects only to hosts that the settings name."""

from __future__ import annotations

import urllib.request
from collections.abc import Collection
from http.client import HTTPMessage
from typing import Any
from urllib.parse import urljoin, urlsplit

from ctt.core.errors import DataError
from ctt.core.plain_text import plain

SCHEMES = ("http", "https")


def check_address(url: str) -> None:
    """Raises DataError unless the address is of http or https and has a host."""
    if _parts(url)[0] not in SCHEMES or not _parts(url)[1]:
        raise DataError(f"{plain(url, 300)} is not an address of http:// or https:// (data.fetch)")


def open_address(request: urllib.request.Request, hosts: Collection[str], timeout: float) -> Any:
    """The answer. Raises DataError for a redirect to a host that is neither the address's own nor one of `hosts`."""
    check_address(request.full_url)
    try:
        return urllib.request.build_opener(_Redirects(hosts)).open(request, timeout=timeout)
    except ValueError as error:  # an address that cannot be parsed
        raise DataError(
            f"{plain(request.full_url, 300)}: the address, or one it redirects to, is malformed ({plain(str(error), 200)})"
        ) from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the same host, and to `hosts` and the hosts below them; never from https to http."""

    def __init__(self, hosts: Collection[str]) -> None:
        self.hosts = [host.lower().strip(".") for host in hosts]

    def http_error_302(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage) -> Any:
        target = urljoin(req.full_url, headers.get("Location") or headers.get("URI") or req.full_url)
        (old, host), (scheme, other) = _parts(req.full_url), _parts(target)
        at = f"{plain(req.full_url, 300)} redirects to {plain(target, 300)}"
        if scheme not in SCHEMES or (old == "https" and scheme == "http"):
            raise DataError(f"{at}: refused, a redirect from {old} may lead to https{' or http' if old == 'http' else ''} only")
        if other != host and not any(other == known or other.endswith(f".{known}") for known in self.hosts):
            raise DataError(
                f"{at}: refused, that is another host. If it is right, allow it: data.fetch.hosts=[{plain(other, 100)}]"
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _parts(url: str) -> tuple[str, str]:
    """(scheme, host) of an address; ("", "") if it has none."""
    try:
        split = urlsplit(url)
        return split.scheme.lower(), (split.hostname or "").strip(".")
    except ValueError:
        return "", ""
