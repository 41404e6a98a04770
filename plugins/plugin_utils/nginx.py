"""What all of these roles' nginx sites have in common."""

from __future__ import annotations

# With forward secrecy and authenticated encryption alone.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
)  # fmt: skip


def tls() -> str:
    """Return the lines of a site that say which TLS it speaks."""
    return "\n".join(
        [
            "ssl_protocols TLSv1.2 TLSv1.3;",
            f"ssl_ciphers {':'.join(CIPHERS)};",
            "ssl_prefer_server_ciphers off;",
            "ssl_session_tickets off;",
        ]
    )


def validate(path: str) -> str:
    """Return the command by which nginx checks a file before it has its place, for `validate`.

    nginx checks a whole configuration: a copy of the present one, with the new file in it. The copy
    is in /etc/nginx, since relative includes begin where the configuration stands.

    Args:
        path: the file's place, somewhere below /etc/nginx.
    """
    return (
        """sh -c 'check=$(mktemp -d /etc/nginx/.check.XXXXXX) && trap "rm -rf $check" EXIT"""
        """ && cp -R /etc/nginx/* $check/ && install -D "$0" "$check/${1#/etc/nginx/}" """
        """&& sed -i "s|/etc/nginx/|$check/|" $check/nginx.conf $check/conf.d/*.conf"""
        f""" && nginx -q -t -c $check/nginx.conf' %s {path}"""
    )
