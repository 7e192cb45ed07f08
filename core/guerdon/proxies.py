"""Proxies of the environment (HTTPS_PROXY, NO_PROXY ...), which are for other machines than this one."""

import os
import urllib.request
from urllib.parse import urlsplit

HERE = ("localhost", "127.0.0.1", "::1")


def proxy_for(url: str) -> str | None:
    """The proxy for a URL; none for this machine's own servers."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if parts.hostname in (None, *HERE) or urllib.request.proxy_bypass(parts.hostname):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def reach_directly(*hosts: str) -> None:
    """Have clients in this process, an agent's too, and in those it starts ask this machine and `hosts` directly."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = dict.fromkeys(name for part in (*given.split(","), *HERE, *hosts) if (name := part.strip()))
    os.environ.update(no_proxy=",".join(names), NO_PROXY=",".join(names))
