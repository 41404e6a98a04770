"""Make an S3 bucket what it should be, then prove with the real key that it serves.

A module asks for a `Bucket` here. Whoever looks at a bucket in use asks for `touch`, which makes
and sets nothing: it puts one small object, gets and deletes it.

Where that is done as another user, by a Python that has boto3, this file alone is the program. It
reads one JSON object on standard input, since it holds keys: what a `Bucket` is asked. It prints
one: `changes` and `skipped` (lists of sentences), `error` (one, '' when all is well), and `date`,
what the store's clock says.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

try:
    import boto3
    import botocore.exceptions as boto_errors
    from botocore.config import Config
except ImportError:  # told by who needs it; sentences are made without it
    boto3 = None

PART = 5 * 1024 * 1024  # the least that S3 takes as a part which is not the last
RIGHTS = (
    "ListBucket, GetObject, PutObject, DeleteObject, AbortMultipartUpload and "
    "ListMultipartUploadParts "
    "(with a KMS key also kms:GenerateDataKey and kms:Decrypt)"
)
UNKNOWN_CHECKSUM = ("checksum", "chunked", "trailer", "sha256", "baddigest")
ABSENT = {"NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "501", "405"}
REFUSED = {"AccessDenied", "AllAccessDisabled", "Forbidden", "UnauthorizedAccess", "403"}
ELSEWHERE = {
    "301", "307", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException", "InvalidRegion", "InvalidLocationConstraint",
}  # fmt: skip


class Failed(Exception):
    """What is wrong and which variable mends it, for people."""


def usable() -> bool:
    """Return whether this Python has boto3, which all but sentences need."""
    return bool(boto3)


def code(error: boto_errors.ClientError) -> str:
    """Return S3's word for an error, such as NoSuchBucket, or else its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status(error: boto_errors.ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


class Bucket:
    """The bucket that is asked for, seen with the key of an administrator and with the real one.

    Attributes:
        asked: `apply` (false: change nothing and say what would be), `variables` (names for error
            messages), and the variables of the role s3_bucket, each without the role's name.
        changes: what was done, or would be; a sentence each.
        skipped: what the store has not, or the key may not; a sentence each.
        date: what the store's clock said, where one asked for `touch`.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.name = asked["name"]
        self.endpoint = asked["endpoint_url"]
        self.changes: list[str] = []
        self.skipped: list[str] = []
        self.date = ""
        own_admin = bool(asked["admin_access_key"])
        self.admin_kind = "admin_access_key" if own_admin else "access_key"
        self.real = self.client(asked["access_key"], asked["secret_key"], asked["session_token"])
        self.admin = (
            self.client(asked["admin_access_key"], asked["admin_secret_key"], "")
            if own_admin
            else self.real
        )

    def variable(self, name: str) -> str:
        """Return how the person who reads an error knows a variable."""
        full = f"s3_bucket_{name}"
        return str(self.asked["variables"].get(full, full))

    def client(self, access_key: str, secret_key: str, token: str) -> Any:
        """Return a client as MLflow makes it. No key: what the environment or the instance has."""
        checksums = self.asked["checksums"]
        modes = (
            {"request_checksum_calculation": checksums, "response_checksum_validation": checksums}
            if checksums
            else {}
        )
        style = self.asked["addressing_style"]
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint or None,
            region_name=self.asked["region"] or None,
            verify=self.asked["ca_bundle"] or None,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            aws_session_token=token or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": style} if style else {},
                connect_timeout=10,
                read_timeout=30,
                retries={"max_attempts": 2, "mode": "standard"},
                **modes,
            ),
        )

    def see_to(self) -> str:
        """Do what is asked. Return the sentence that says why not, '' where all is well."""
        try:
            if self.asked.get("touch"):
                self.touch()
            elif self.ensure():
                self.settings()
                if self.asked["apply"]:
                    self.prove()
        except Failed as failure:
            return str(failure)
        return ""

    # The bucket and its settings ---------------------------------------------------------------

    def change(self, words: str, act: Callable[[], object]) -> None:
        """Note a change, and make it unless this only looks."""
        if self.asked["apply"]:
            act()
        self.changes.append(words)

    def ensure(self) -> bool:
        """Make the bucket where it is missing. Return whether there is one now."""
        with self.explained("look for the bucket", "ListBucket", self.admin_kind):
            try:
                self.admin.head_bucket(Bucket=self.name)
                return True
            except boto_errors.ClientError as error:
                if code(error) in REFUSED:  # there is one, or this key may not even ask
                    return True
                if status(error) != http.client.NOT_FOUND:
                    raise
        if not self.asked["create"]:
            raise Failed(
                f"There is no bucket {self.name} at {self.place}. Make it there, look at "
                f"{self.variable('name')}, "
                f"or set {self.variable('create')}: true."
            )
        region = self.asked["region"]
        where = (
            {"CreateBucketConfiguration": {"LocationConstraint": region}}
            if region not in ("", "us-east-1")
            else {}
        )
        with self.explained("create the bucket", "CreateBucket", self.admin_kind):
            self.change(
                f"bucket {self.name} created",
                lambda: self.admin.create_bucket(Bucket=self.name, **where),
            )
        return bool(self.asked["apply"])

    def settings(self) -> None:
        """See to each setting of the bucket that is wanted and that the store has."""
        for wanted, words, act in (
            (self.asked["versioning"], "versioning", self.versioning),
            (True, "lifecycle rules", self.lifecycle),
            (self.asked["public_access_block"], "the block of public access", self.block_public),
        ):
            if not wanted:
                continue
            with self.explained(f"see to {words}", f"settings ({words})", self.admin_kind):
                try:
                    act()
                except boto_errors.ClientError as error:
                    if code(error) in ABSENT or status(error) in (405, 501):
                        self.skipped.append(f"{words}: this store has no such setting")
                    elif code(error) in REFUSED:
                        self.skipped.append(f"{words}: this key may not see to it")
                    else:
                        raise

    def versioning(self) -> None:
        """Keep what is overwritten or deleted as an older version."""
        if self.admin.get_bucket_versioning(Bucket=self.name).get("Status") != "Enabled":
            self.change(
                "versioning enabled",
                lambda: self.admin.put_bucket_versioning(
                    Bucket=self.name, VersioningConfiguration={"Status": "Enabled"}
                ),
            )

    def lifecycle(self) -> None:
        """Remove what would otherwise be kept for ever. Other people's rules stay as they are."""
        try:
            found = self.admin.get_bucket_lifecycle_configuration(Bucket=self.name)
            there = found.get("Rules", [])
        except boto_errors.ClientError as error:
            if code(error) != "NoSuchLifecycleConfiguration":
                raise
            there = []
        prefix = f"{self.asked['prefix']}/" if self.asked["prefix"] else ""
        abort, noncurrent = self.asked["abort_days"], self.asked["noncurrent_days"]
        actions: dict[str, dict[str, Any]] = {
            "s3_bucket-abort": {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": abort}},
            "s3_bucket-noncurrent": {"NoncurrentVersionExpiration": {"NoncurrentDays": noncurrent}},
        }
        days = {"s3_bucket-abort": abort, "s3_bucket-noncurrent": noncurrent}
        wanted = [
            {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}
            for name, action in actions.items()
            if days[name]
        ]
        ours = [rule for rule in there if rule.get("ID") in actions]
        order = [rule["ID"] for rule in wanted]
        if sorted(ours, key=lambda rule: rule["ID"]) == sorted(wanted, key=lambda rule: rule["ID"]):
            return
        rules = [rule for rule in there if rule.get("ID") not in actions] + wanted
        if rules:
            self.change(
                f"lifecycle rules set: {', '.join(order) or 'ours removed'}",
                lambda: self.admin.put_bucket_lifecycle_configuration(
                    Bucket=self.name, LifecycleConfiguration={"Rules": rules}
                ),
            )
        else:
            self.change(
                "lifecycle rules removed",
                lambda: self.admin.delete_bucket_lifecycle(Bucket=self.name),
            )

    def block_public(self) -> None:
        """Refuse every policy and ACL that would open the bucket to the world."""
        wanted = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"),
            True,
        )
        try:
            found = self.admin.get_public_access_block(Bucket=self.name)
            there = found["PublicAccessBlockConfiguration"]
        except boto_errors.ClientError as error:
            if code(error) != "NoSuchPublicAccessBlockConfiguration":
                raise
            there = {}
        if there != wanted:
            self.change(
                "public access blocked",
                lambda: self.admin.put_public_access_block(
                    Bucket=self.name, PublicAccessBlockConfiguration=wanted
                ),
            )

    # The proof ---------------------------------------------------------------------------------

    def prove(self) -> None:
        """Do all that MLflow will do, with the key it will use, and leave nothing behind."""
        directory = "/".join(filter(None, [self.asked["prefix"], f".preflight-{uuid.uuid4().hex}"]))
        one, two = f"{directory}/one", f"{directory}/two"
        where = {"Bucket": self.name}
        uploads: list[tuple[str, str]] = []
        deleted = False
        try:
            with self.explained("put an object", "PutObject"):
                self.real.put_object(**where, Key=one, Body=b"0123456789")
            with self.explained("get a part of an object", "GetObject"):
                body = self.real.get_object(**where, Key=one, Range="bytes=2-5")["Body"].read()
                self.same(body, b"2345", "a range of an object")
            with self.explained("list objects", "ListBucket"):
                found = self.real.list_objects_v2(**where, Prefix=f"{directory}/")
                self.same([item["Key"] for item in found.get("Contents", [])], [one], "the list")

            with self.explained("begin an upload in parts", "PutObject"):
                upload = self.real.create_multipart_upload(**where, Key=two)["UploadId"]
                uploads.append((two, upload))
            parts = [
                {"PartNumber": number, "ETag": self.send_part(two, upload, number, content)}
                for number, content in ((1, b"1" * PART), (2, b"22"))
            ]
            with self.explained("list an upload's parts", "ListMultipartUploadParts"):
                self.real.list_parts(**where, Key=two, UploadId=upload)
            with self.explained("end an upload in parts", "PutObject"):
                self.real.complete_multipart_upload(
                    **where, Key=two, UploadId=upload, MultipartUpload={"Parts": parts}
                )
                uploads.clear()
            with self.explained("get what was uploaded in parts", "GetObject"):
                there = self.real.get_object(**where, Key=two, Range=f"bytes={PART - 1}-{PART}")
                self.same(there["Body"].read(), b"12", "what was uploaded in parts")
            with self.explained("abandon an upload", "AbortMultipartUpload"):
                upload = self.real.create_multipart_upload(**where, Key=two)["UploadId"]
                self.real.abort_multipart_upload(**where, Key=two, UploadId=upload)

            with self.explained("delete several objects at once", "DeleteObject"):
                objects = {"Objects": [{"Key": one}, {"Key": two}]}
                answer = self.real.delete_objects(**where, Delete=objects)
                for refused in answer.get("Errors", []):
                    raise boto_errors.ClientError({"Error": refused}, "DeleteObjects")
                found = self.real.list_objects_v2(**where, Prefix=f"{directory}/")
                self.same(found.get("Contents", []), [], "the list after everything was deleted")
                deleted = True
            self.wrong_key()
        finally:
            with contextlib.suppress(Exception):
                for key, upload in uploads:
                    self.real.abort_multipart_upload(**where, Key=key, UploadId=upload)
            if not deleted:
                for client, key in ((self.admin, one), (self.admin, two), (self.real, one)):
                    with contextlib.suppress(Exception):
                        client.delete_object(**where, Key=key)
            self.purge(directory)

    def touch(self) -> None:
        """Put, get and delete one small object with the real key, and leave nothing behind."""
        directory = "/".join(filter(None, [self.asked["prefix"], f".touch-{uuid.uuid4().hex}"]))
        where = {"Bucket": self.name, "Key": f"{directory}/one"}
        with self.explained("put an object", "PutObject"):
            answer = self.real.put_object(**where, Body=b"0123456789")
        self.date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            with self.explained("get an object", "GetObject"):
                body = self.real.get_object(**where)["Body"].read()
                self.same(body, b"0123456789", "an object")
        finally:
            with self.explained("delete an object", "DeleteObject"):
                self.real.delete_object(**where)
            self.purge(directory)

    def send_part(self, key: str, upload: str, number: int, content: bytes) -> str:
        """Send a part by a presigned address, as clients do, without boto3. Return its ETag."""
        address = self.real.generate_presigned_url(
            "upload_part",
            Params={"Bucket": self.name, "Key": key, "UploadId": upload, "PartNumber": number},
            ExpiresIn=300,
        )
        request = urllib.request.Request(address, data=content, method="PUT")  # noqa: S310
        request.add_header("Content-Type", "application/octet-stream")
        try:
            with contextlib.suppress(ConnectionError):  # a busy store hangs up: once more, as boto3
                return self.etag(request)
            return self.etag(request)
        except urllib.error.HTTPError as error:
            words = " ".join(error.read(400).decode(errors="replace").split())
            raise Failed(
                f"{self.place} refuses a part that is sent by a presigned address (HTTP "
                f"{error.code}: {words}). "
                "Clients send large artifacts so. Is there a proxy in front of it that changes the "
                "Host header?"
            ) from error
        except OSError as error:
            words = f"A part sent by a presigned address does not arrive at {self.place}: {error}."
            raise Failed(self.no_connection(error, words)) from error

    def etag(self, request: urllib.request.Request) -> str:
        """Send a request, and return the ETag that is answered."""
        with urllib.request.urlopen(request, timeout=60, context=self.trust()) as answer:  # noqa: S310
            return str(answer.headers["ETag"])

    def trust(self) -> ssl.SSLContext:
        """Return whom to trust, as boto3 and MLflow's clients do: Python 3.13 would be stricter."""
        context = ssl.create_default_context(cafile=self.asked["ca_bundle"] or None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def wrong_key(self) -> None:
        """See that the store refuses somebody else: one that takes any key keeps nothing apart."""
        stranger = self.client(
            self.asked["access_key"] or "AKIA0000000000000000", uuid.uuid4().hex + "0" * 8, ""
        )
        with contextlib.suppress(boto_errors.ClientError):
            stranger.list_objects_v2(Bucket=self.name, MaxKeys=1)
            raise Failed(
                f"{self.place} answers a request that was signed with a wrong secret: it checks no "
                "keys, or bucket "
                f"{self.name} is open to everybody. Close it, or set "
                f"{self.variable('endpoint_url')} to another store."
            )

    def purge(self, directory: str) -> None:
        """Remove the older versions that a bucket with versioning keeps of what was deleted."""
        where = {"Bucket": self.name}
        try:
            found = self.admin.list_object_versions(**where, Prefix=f"{directory}/")
            objects = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
            ]
            if objects and not self.admin.delete_objects(**where, Delete={"Objects": objects}).get(
                "Errors"
            ):
                return
            left = bool(objects)
        except (boto_errors.ClientError, boto_errors.BotoCoreError) as error:
            # A store without versions has none to leave; a key without the right cannot see them.
            left = isinstance(error, boto_errors.ClientError) and code(error) in REFUSED
        if left:
            self.skipped.append(
                "older versions of the 5 MB that were put to prove this: this key may not remove "
                "them; "
                "a lifecycle rule can"
            )

    def same(self, found: object, wanted: object, words: str) -> None:
        """See that what the store gave is what it should have given."""
        if found != wanted:
            raise Failed(
                f"{self.place} does not give back what was stored: {words} is not as it should be. "
                "This store cannot be used for MLflow."
            )

    # What failures mean ------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return self.endpoint or "AWS"

    @contextlib.contextmanager
    def explained(self, step: str, action: str, kind: str = "access_key") -> Iterator[None]:
        """Turn whatever fails inside into a sentence with the variable to change."""
        try:
            yield
        except boto_errors.ClientError as error:
            raise Failed(self.refusal(error, step, action, kind)) from error
        except (boto_errors.NoCredentialsError, boto_errors.PartialCredentialsError) as error:
            raise Failed(
                f"There is no key for S3: {self.variable('access_key')} and "
                f"{self.variable('secret_key')} are empty, and "
                "neither this host's instance role nor its environment has one. Set them, or give "
                "the instance a role."
            ) from error
        except boto_errors.NoRegionError as error:
            raise Failed(f"S3 needs a region. Set {self.variable('region')}.") from error
        except boto_errors.ParamValidationError as error:
            raise Failed(f"Cannot {step}: {error}. Look at {self.variable('name')}.") from error
        except (boto_errors.HTTPClientError, boto_errors.ConnectionError) as error:
            raise Failed(self.no_connection(error)) from error
        except boto_errors.BotoCoreError as error:
            raise Failed(f"Cannot {step} at {self.place}: {error}.") from error

    def refusal(self, error: boto_errors.ClientError, step: str, action: str, kind: str) -> str:
        """Return what an error of S3 means."""
        word, http_status = code(error), status(error)
        said = str(error.response.get("Error", {}).get("Message", "")).strip().rstrip(".")
        key = self.variable(kind)
        secret = self.variable(kind.replace("access_key", "secret_key"))
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        start = f"Cannot {step} ({self.place}, bucket {self.name}):"
        if word in ("InvalidAccessKeyId", "InvalidToken", "ExpiredToken"):
            other = f" or {self.variable('session_token')}" if "Token" in word else ""
            return f"{start} the store does not know this key ({word}). Look at {key}{other}."
        if word == "SignatureDoesNotMatch":
            return (
                f"{start} the secret does not belong to the key ({word}). Look at {secret}; if it "
                "is right, a proxy in "
                "front of the store changes the Host header."
            )
        if word == "RequestTimeTooSkewed":
            now = datetime.datetime.now(datetime.timezone.utc)
            return (
                f"{start} this host's clock is off "
                f"({now:%F %T} UTC; the store says "
                f"{headers.get('date', 'otherwise')}). Set it right, with systemd-timesyncd for "
                "example."
            )
        if word in ELSEWHERE:
            region = headers.get("x-amz-bucket-region") or error.response["Error"].get("Region", "")
            return (
                f"{start} the bucket is in another region{f', {region}' if region else ''}. "
                f"Set {self.variable('region')}{f': {region}' if region else ' to it'}."
            )
        if http_status == http.client.LENGTH_REQUIRED or word == "MissingContentLength" or (
            action == "PutObject"
            and any(hint in f"{word} {said}".lower() for hint in UNKNOWN_CHECKSUM)
        ):  # fmt: skip
            return (
                f"{start} the store does not know AWS' newer checksums ({word or http_status} "
                f"{said}). "
                f"Set {self.variable('checksums')}: when_required."
            )
        if word in ("NoSuchBucket", "404"):
            return (
                f"{start} there is no such bucket. Look at {self.variable('name')}, or set "
                f"{self.variable('create')}: true."
            )
        if word == "BucketAlreadyExists":
            return (
                f"{start} the name belongs to somebody else's bucket. Set {self.variable('name')} "
                "to another."
            )
        if word in REFUSED or http_status == http.client.FORBIDDEN:
            if action == "CreateBucket":
                return (
                    f"{start} the key may not. Give it the right {action}, set "
                    f"{self.variable('admin_access_key')} and its secret to "
                    f"one that may, or have the bucket made and set {self.variable('create')}: "
                    "false."
                )
            return (
                f"{start} the key of {key} lacks the right {action} there, or bucket {self.name} "
                f"({self.variable('name')}) is another's or does not exist. MLflow needs {RIGHTS}."
            )
        if http_status == http.client.BAD_REQUEST and self.endpoint.startswith("http://"):
            return self.no_connection(error, f"{start} HTTP 400 {said}.")
        return f"{start} {word or http_status} {said}."

    def no_connection(self, error: Exception, otherwise: str = "") -> str:
        """Return why there is no connection to the endpoint, by trying it without boto3."""
        url = urlsplit(self.endpoint or "https://s3.amazonaws.com")
        host, tls = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if tls else 80)
        endpoint, bundle = self.variable("endpoint_url"), self.variable("ca_bundle")
        try:
            socket.getaddrinfo(host, port)
            if self.asked["addressing_style"] == "virtual":
                try:
                    socket.getaddrinfo(f"{self.name}.{host}", port)
                except OSError:
                    return (
                        f"The name {self.name}.{host} does not resolve on this host, and it is how "
                        f"bucket {self.name} is "
                        f"addressed. Set {self.variable('addressing_style')}: path."
                    )
        except OSError:
            return (
                f"The name {host} does not resolve on this host. Look at {endpoint} "
                f"({self.place}), or at its DNS."
            )
        try:
            with socket.create_connection((host, port), timeout=10) as plain:
                if not tls:
                    # A server that wants TLS answers in TLS, says so in a 400, or hangs up.
                    plain.sendall(f"GET / HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode())
                    answer = plain.recv(1000)
                    if not answer.startswith(b"HTTP/") or b"HTTPS" in answer:
                        return f"{self.place} wants TLS. Set {endpoint}: https://{url.netloc}."
                else:
                    self.trust().wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError as refused:
            if refused.verify_code in (62, 64):  # OpenSSL: another host's name, another address
                return (
                    f"The certificate of {self.place} is not for {host}: "
                    f"{refused.verify_message.rstrip('.')}. Look at {endpoint}."
                )
            if refused.verify_code in (9, 10):  # not yet valid, expired
                return (
                    f"The certificate of {self.place} is not valid now: {refused.verify_message}."
                )
            given = self.asked["ca_bundle"]
            return (
                f"The certificate of {self.place} is not trusted on this host "
                f"({refused.verify_message}). Set {bundle} to a "
                "PEM file there with the CA that signed "
                f"it{f'; {given} holds another' if given else ''}."
            )
        except (ssl.SSLEOFError, ConnectionResetError):
            return (
                f"{host}, port {port}, hangs up where TLS should begin. Does the store behind it "
                f"run? Look at {endpoint} ({self.place})."
            )
        except ssl.SSLError:
            return (
                f"{self.place} speaks no TLS. Set {endpoint}: http://{url.netloc}, or have TLS "
                "switched on there."
            )
        except ConnectionRefusedError:
            return (
                f"Nobody listens at {host}, port {port}. Look at {endpoint} ({self.place}); does "
                "the store run?"
            )
        except FileNotFoundError:
            return (
                f"The file {self.asked['ca_bundle']} does not exist on this host. Look at {bundle}."
            )
        except OSError as refused:
            return (
                f"{host}, port {port}, cannot be reached: {refused}. Look at {endpoint} "
                f"({self.place}), and at firewalls."
            )
        return otherwise or f"No answer from {self.place}: {error}."


def main() -> None:
    """Read what is asked for, do it, and say what was done."""
    if not usable():
        sys.exit(f"{sys.executable} has no boto3.")
    bucket = Bucket(json.load(sys.stdin))
    error = bucket.see_to()
    said = {"changes": bucket.changes, "skipped": bucket.skipped, "date": bucket.date}
    print(json.dumps({**said, "error": error}))
