"""Why builds fail, as the tools say it on a machine behind a company's network."""

from __future__ import annotations

import pytest

from gateway.engine.docker.causes import cause

TLS, PROXY, PASSWORD, NAMES, NETWORK, DISK, REFUSED = (
    "ca_certificates",
    "your proxy does not answer",
    "wants a password",
    "look up names",
    "do not reach the network",
    "disk is full",
    "refuses what it was asked for",
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable "
            "to get local issuer certificate (_ssl.c:1032)'))",
            TLS,
        ),
        ("curl: (60) SSL certificate problem: self-signed certificate in certificate chain", TLS),
        (
            "fatal: unable to access 'https://x/': server certificate verification failed. CAfile: none CRLfile: none",
            TLS,
        ),
        ("Certificate verification failed: The certificate is NOT trusted. The certificate issuer is unknown.", TLS),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN", TLS),
        ("error: invalid peer certificate: UnknownIssuer", TLS),
        (
            'go: x: Get "https://x": tls: failed to verify certificate: x509: certificate signed by unknown authority',
            TLS,
        ),
        ("  Invalid response from proxy: HTTP/1.1 407 Proxy Authentication Required  [IP: 10.0.0.1 3128]", PASSWORD),
        ("curl: (56) CONNECT tunnel failed, response 407", PASSWORD),
        ("ProxyError('Cannot connect to proxy.', NewConnectionError('...: Connection refused'))", PROXY),
        ("curl: (5) Could not resolve proxy: proxy.corp", PROXY),
        ("huskies: the proxy 10.0.0.1:3128: Connection refused", PROXY),
        ("  Temporary failure resolving 'ftp.debian.org'", NAMES),
        ("NameResolutionError: Failed to resolve 'x' ([Errno -3] Temporary failure in name resolution)", NAMES),
        ("npm error errno EAI_AGAIN", NAMES),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", NAMES),
        ("  Could not connect to ftp.debian.org:80 (151.101.2.132), connection timed out", NETWORK),
        ("  Cannot initiate the connection to x:80. - connect (101: Network is unreachable)", NETWORK),
        ("E: You don't have enough free space... No space left on device", DISK),
        ("write /usr/lib/x: no space left on device", DISK),
        ("  403  Forbidden [IP: 10.0.0.1 80]", REFUSED),
    ],
)
def test_the_first_line_names_the_cause_and_what_to_type(said: str, meant: str) -> None:
    known = cause(["Step 6/9 : RUN apt-get update", said, "Removing intermediate container"])
    assert known is not None
    assert meant in known.why
    assert known.line == said.strip()


def test_what_nobody_can_tell_is_not_guessed() -> None:
    assert cause(["error: could not compile `hello`", "make: *** [Makefile:2: all] Error 1"]) is None
