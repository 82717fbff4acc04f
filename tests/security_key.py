"""A security key in software: signs as an authenticator does, with its flags and its counter, for the tests.

The two kinds of sk keys of OpenSSH; `ssh-keygen -Y verify` accepts what is made here, which a test checks.
"""

import base64
import hashlib
import struct
import textwrap
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

APPLICATION = b"ssh:"
APPROVAL = "canary-controller.io/approval"


def field_of(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def number_of(value: int) -> bytes:
    return field_of(value.to_bytes(value.bit_length() // 8 + 1, "big"))


@dataclass
class SecurityKey:
    """One key; `flags` 1 is touched, 0 is not."""

    ecdsa: bool = False
    flags: int = 1
    counter: int = 7
    _private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self._private = (
            ec.generate_private_key(ec.SECP256R1()) if self.ecdsa else Ed25519PrivateKey.generate()
        )

    @property
    def kind(self) -> bytes:
        return b"sk-ecdsa-sha2-nistp256@openssh.com" if self.ecdsa else b"sk-ssh-ed25519@openssh.com"

    @property
    def blob(self) -> bytes:
        if self.ecdsa:
            form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            point = field_of(b"nistp256") + field_of(self._private.public_key().public_bytes(*form))
        else:
            raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
            point = field_of(self._private.public_key().public_bytes(*raw))
        return field_of(self.kind) + point + field_of(APPLICATION)

    @property
    def line(self) -> str:
        """The public half as ssh-keygen writes it."""
        return f"{self.kind.decode()} {base64.b64encode(self.blob).decode()} test@example"

    def sign(self, text: str, *, namespace: str = APPROVAL, hash_name: str = "sha512") -> str:
        digest = hashlib.new(hash_name, text.encode()).digest()
        parts = (namespace.encode(), b"", hash_name.encode())
        message = b"SSHSIG" + b"".join(map(field_of, (*parts, digest)))
        said = hashlib.sha256(APPLICATION).digest() + struct.pack(">BI", self.flags, self.counter)
        said += hashlib.sha256(message).digest()
        signature = (
            field_of(self.kind) + field_of(self._raw(said)) + struct.pack(">BI", self.flags, self.counter)
        )
        body = b"SSHSIG" + struct.pack(">I", 1) + b"".join(map(field_of, (self.blob, *parts, signature)))
        lines = textwrap.wrap(base64.b64encode(body).decode(), 70)
        return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])

    def _raw(self, said: bytes) -> bytes:
        if isinstance(self._private, Ed25519PrivateKey):
            return self._private.sign(said)
        r, s = decode_dss_signature(self._private.sign(said, ec.ECDSA(hashes.SHA256())))
        return number_of(r) + number_of(s)
