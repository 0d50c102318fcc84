"""Who can reach the api, and what they are asked for: settled before anything is started."""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from api.errors import LaunchError
from api.keyfile import read_key_file
from api.keyring import key_file_of
from api.options import Options


@dataclass(frozen=True)
class Door:
    """What callers are asked for.

    Attributes:
        given: keys with full rights.
        path: the key file.
        filed: how many keys it holds; None where there is no such file and none was asked for.
        insecure: nobody is asked, and that is meant.
    """

    given: tuple[str, ...]
    path: Path
    filed: int | None
    insecure: bool

    @classmethod
    def of(cls, options: Options) -> "Door":
        """What the options ask for.

        Raises:
            LaunchError: the key file was named and is not there, or what is in it cannot be used.
        """
        path = key_file_of(options).absolute()
        filed = len(read_key_file(path)) if options.key_file or os.path.lexists(path) else None
        return cls(tuple(key.get_secret_value() for key in options.api_key), path, filed, options.insecure)

    @property
    def is_open(self) -> bool:
        """Whether everyone is let in."""
        return not self.given and self.filed is None

    def check(self, address: str) -> None:
        """Raises a LaunchError when the address is reached from other machines and everyone is let in unmeant."""
        if self.is_open and not self.insecure and not ip_address(address).is_loopback:
            raise LaunchError(
                f"Everyone who reaches {address} could call this server, as no key is asked for: give keys with "
                "--api-key or --key-file, listen on --host 127.0.0.1, or say --insecure if that is meant."
            )

    def told(self, host: str) -> str:
        """One line for the user."""
        if not self.is_open:
            told = [f"{self.filed} in {self.path}"] if self.filed is not None else []
            told += [f"{len(self.given)} by --api-key"] if self.given else []
            return f"callers need a key: {', '.join(told)}"
        if self.insecure:
            return f"WARNING: --insecure: everyone who reaches {host} may call, no key is asked for"
        return f"no key is asked for, and only this machine reaches {host}; `millpond keys add NAME` asks for keys"

    @property
    def environment(self) -> dict[str, str]:
        """What an api process must know of it, as variables.

        A file that is there now is named, and thereby required: an api process that is started again while it is gone
        does not let everyone in.
        """
        found = {"MILLPOND_API_KEY": ",".join(self.given)} if self.given else {}
        return found if self.filed is None else {**found, "MILLPOND_KEY_FILE": str(self.path)}
