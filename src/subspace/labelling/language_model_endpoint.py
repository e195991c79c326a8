"""Endpoint: one OpenAI-compatible server, its client, and what its errors mean."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from subspace.errors import ConfigError

if TYPE_CHECKING:
    from openai import APIStatusError

KEY = "OPENAI_API_KEY"
# The same answer to the same question, in the shape of a schema; endpoints that do not know one
# or the other answer 400 or 422 and are asked with less.
_FORMS = (("schema", "temperature"), ("schema",), ("temperature",), ())
_REFUSALS = (400, 403, 413, 422)
_PERMANENT: Mapping[int, str] = {
    401: f"check the key in the environment variable {KEY}",
    404: "check --base-url (it often ends in /v1) and --model",
}


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered.

    Attributes:
        content: The model's text; empty where it gave none.
        input_tokens: As the endpoint counted them; 0 if it does not say.
        output_tokens: The same of the answer.
    """

    content: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class RefusedError(Exception):
    """The endpoint does not take these texts; it may take fewer, or others."""


class UnreachableError(Exception):
    """The endpoint did not answer, after all retries."""


class Endpoint:
    """Asks one model, from several threads at once.

    Retries after 408, 409, 429, 5xx, a lost connection and a timeout are the client's own: it
    waits as long as `Retry-After` says (up to two minutes), else 0.5 s, doubled every time up
    to 8 s, less up to a quarter by chance.
    """

    def __init__(self, base_url: str, *, model: str, timeout: float, retries: int) -> None:
        """Opens a client; sends nothing.

        Args:
            base_url: Where the server is, such as `http://localhost:8000/v1`.
            model: As the server calls it.
            timeout: Seconds that one request may take.
            retries: How often a request is sent again.

        Raises:
            ConfigError: The package is not installed, or `base_url` cannot be one.
        """
        check_endpoint(base_url)
        from openai import DefaultHttpxClient, OpenAI

        self.model = model
        self._base_url = base_url
        self._key = _read_key()
        self._form: int | None = None
        self._client = OpenAI(
            api_key=self._key or "none",  # local servers take anything, the client wants something
            base_url=base_url,
            timeout=timeout,
            max_retries=retries,
            # Texts go where the user said and nowhere else: what is for this machine, past proxies.
            http_client=DefaultHttpxClient(
                follow_redirects=False, trust_env=not _is_loopback(base_url)
            ),
        )

    def ask(self, *, instructions: str, texts: str, schema: Mapping[str, Any]) -> Reply:
        """Asks once.

        Raises:
            RefusedError: These texts are not taken.
            UnreachableError: No answer came.
            ConfigError: No request can ever succeed: a wrong key, model or address.
        """
        import openai

        forms = range(len(_FORMS)) if self._form is None else [self._form]
        for form in forms:
            try:
                reply = self._send(_FORMS[form], instructions, texts, schema)
            except openai.APIStatusError as error:
                if error.status_code in (400, 422) and form != forms[-1]:
                    continue
                raise self._explain(error) from None  # its request holds the key
            except openai.APIConnectionError as error:  # a timeout is one, too
                raise UnreachableError(f"{self._base_url}: {str(error).rstrip('.')}") from None
            self._form = form if self._form is None else self._form
            return reply
        raise AssertionError("the last form returns or raises")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _send(
        self, form: tuple[str, ...], instructions: str, texts: str, schema: Mapping[str, Any]
    ) -> Reply:
        options: dict[str, Any] = {}
        if "schema" in form:
            described = {"name": "labels", "strict": True, "schema": schema}
            options["response_format"] = {"type": "json_schema", "json_schema": described}
        if "temperature" in form:
            options["temperature"] = 0
        messages: Any = [
            {"role": "system", "content": instructions},
            {"role": "user", "content": texts},
        ]
        try:
            answer = self._client.chat.completions.create(
                model=self.model, messages=messages, **options
            )
        except json.JSONDecodeError:
            return Reply()
        return _read(answer)

    def _explain(self, error: "APIStatusError") -> Exception:
        """What an error means to the user; never with the key, which some servers repeat."""
        said = " ".join(error.message.split()).removeprefix(f"Error code: {error.status_code} - ")
        if self._key:
            said = said.replace(self._key, "***")
        said = f"{self._base_url} answered {error.status_code}: {said:.300}"
        status = error.status_code
        if status in _PERMANENT:
            return ConfigError(f"{said}; {_PERMANENT[status]}")
        if status < 400:
            return ConfigError(f"{said}; redirects are not followed: give the address it names")
        return RefusedError(said) if status in _REFUSALS else UnreachableError(said)


def _read(answer: Any) -> Reply:
    """Content and tokens; the client checks no types, and a proxy may have sent its own page."""
    try:
        content, usage = answer.choices[0].message.content, answer.usage
    except (AttributeError, IndexError, TypeError):
        return Reply()
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    sent, answered = (count if isinstance(count, int) else 0 for count in counts)
    return Reply(content if isinstance(content, str) else "", sent, answered)


def check_endpoint(base_url: str) -> None:
    """Whether a client can be made: to be asked before the work that comes before.

    Raises:
        ConfigError: The package is not installed; the key cannot be one; or `base_url` is no
            http(s) address, or holds a password, which would be printed.
    """
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        sound = False
    if not sound or "@" in parts.netloc:
        raise ConfigError(
            "--base-url must be an address like http://localhost:8000/v1, without name or "
            f"password (the key comes from the environment variable {KEY})"
        )
    _read_key()
    if find_spec("openai") is None:
        raise ConfigError(
            "labels by a language model need the package openai; install it with: "
            "pip install 'subspace[labels]'"
        )


def _is_loopback(base_url: str) -> bool:
    """Whether it is an address of this very machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")


def _read_key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{KEY} in the environment holds characters that no key has")
    return key
