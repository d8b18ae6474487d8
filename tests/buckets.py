"""A store that speaks S3 over HTTP, in a process of its own: signatures are checked, and only its user may come in."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import obstore
import orjson
from obstore.store import ObjectStore, from_url

REGION = "eu-central-1"
_SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""
_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@dataclass(frozen=True)
class S3:
    """A store with one bucket, `rows`, and the key of the only user who may use it."""

    url: str
    id: str
    key: str

    def connection(self, bucket: str = "rows", **options: Any) -> dict[str, Any]:
        """As an administrator writes it; `options` in place of the right ones."""
        right = {"region": REGION, "access_key_id": self.id, "secret_access_key": self.key}
        return {"kind": "objects", "url": f"s3://{bucket}/june", "endpoint": self.url, "options": right | options}

    def put(self, path: str, data: bytes, **attributes: str) -> None:
        obstore.put(self._store(), path, data, attributes=attributes)

    def get(self, path: str) -> bytes:
        return bytes(obstore.get(self._store(), path).bytes())

    def _store(self) -> ObjectStore:
        said = self.connection()
        plain: Any = {"allow_http": True}
        return from_url("s3://rows", config=said["options"] | {"endpoint": self.url}, client_options=plain)


@contextmanager
def s3() -> Iterator[S3]:
    """It runs as long as the block does."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:  # fmt: skip
        assert process.stdout
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        try:
            yield _with_a_user(url)
        finally:
            process.kill()


def _with_a_user(url: str) -> S3:
    """Until the store is told to look at them, it believes every signature."""

    def signed(service: str) -> dict[str, str]:
        scope = f"nobody/20260101/{REGION}/{service}/aws4_request"
        return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none"}

    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:

        def user(action: str, **more: str) -> str:
            form = {"Action": action, "Version": "2010-05-08", "UserName": "fairlead", **more}
            return client.post("/", data=form, headers=signed("iam")).raise_for_status().text

        user("CreateUser")
        user("PutUserPolicy", PolicyName="rows", PolicyDocument=orjson.dumps(_POLICY).decode())
        made = user("CreateAccessKey")
        place = (
            f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        )
        client.put("/rows", content=place, headers=signed("s3")).raise_for_status()
        strict = client.post("/moto-api/reset-auth", content=b"0", headers={"content-type": "text/plain"})
        strict.raise_for_status()
    return S3(url, _member(made, "AccessKeyId"), _member(made, "SecretAccessKey"))


def _member(xml: str, name: str) -> str:
    found = re.search(f"<{name}>(.+?)</{name}>", xml)
    assert found, xml
    return found[1]
