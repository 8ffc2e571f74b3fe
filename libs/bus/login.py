"""Who we are to NATS: an nkey and the private CA, as `nacre bus accounts` made them. Both are files."""

import ssl
from pathlib import Path
from typing import Any

import msgspec

from libs.runtime.errors import Misconfigured
from libs.runtime.secret_file import read_secret
from libs.runtime.site import Environment


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """`nkey_file` is `<user>.nk`: its name tells the user, which may listen on the inbox `_INBOX_<user>` only."""

    nkey_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def of(cls, environment: Environment) -> "Login":
        """From NACRE_NATS_NKEY_FILE and NACRE_NATS_CA_FILE; without them a server that asks for none."""
        nkey, ca = environment.nats_nkey_file, environment.nats_ca_file
        return cls(nkey_file=Path(nkey) if nkey else None, ca_file=Path(ca) if ca else None)

    def options(self, service: str) -> dict[str, Any]:
        """Options of nats-py's connect. Misconfigured names the file that is missing or unfit.

        The seed is read once: a process keeps the key that it started with while keys are rotated.
        """
        user = self.nkey_file.stem if self.nkey_file else service
        options: dict[str, Any] = {"inbox_prefix": f"_INBOX_{user}"}
        if self.nkey_file:
            options["nkeys_seed_str"] = read_secret(self.nkey_file, "nkey for NATS").decode("ascii", "replace").strip()
        if self.ca_file:
            try:
                options["tls"] = ssl.create_default_context(cafile=self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise Misconfigured(f"CA of NATS: {self.ca_file} cannot be used: {error}") from error
        return options


ANONYMOUS = Login()
