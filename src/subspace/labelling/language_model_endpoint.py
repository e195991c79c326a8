"""Endpoint: asks an OpenAI-compatible server, and explains its errors."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from subspace.errors import ConfigError, install_command

if TYPE_CHECKING:
    from openai import APIStatusError

KEY = "OPENAI_API_KEY"
# Options of a request: a JSON schema for the answer, and temperature 0 for reproducible answers.
# If an endpoint does not know an option, it answers 400 or 422, and the next form is tried.
_FORMS = (("schema", "temperature"), ("schema",), ("temperature",), ())
_REFUSALS = (400, 403, 413, 422)
_PERMANENT: Mapping[int, str] = {
    401: f"check the key in the environment variable {KEY}",
    404: "check --base-url (it often ends in /v1) and --model",
}


@dataclass(frozen=True)
class Reply:
    """The answer of an endpoint.

    Attributes:
        content: The model's text; empty if there is none.
        input_tokens: Tokens sent, as counted by the endpoint; 0 if it does not count.
        output_tokens: Tokens answered, counted in the same way.
    """

    content: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class RefusedError(Exception):
    """The endpoint refuses these texts; it may accept fewer, or others."""


class UnreachableError(Exception):
    """The endpoint did not answer, after all retries."""


class Endpoint:
    """Asks one model; several threads may use it at once.

    The client of `openai` retries after 408, 409, 429, 5xx, a lost connection and a timeout. It
    waits as long as `Retry-After` says (up to two minutes); otherwise 0.5 s, doubled each time up
    to 8 s, minus a random part of up to a quarter.
    """

    def __init__(self, base_url: str, *, model: str, timeout: float, retries: int) -> None:
        """Opens a client; sends nothing.

        Args:
            base_url: Address of the server, such as `http://localhost:8000/v1`.
            model: Name of the model at the server.
            timeout: Seconds that a request may take.
            retries: How often to send a request again.

        Raises:
            ConfigError: As `check_endpoint`.
        """
        check_endpoint(base_url)
        from openai import DefaultHttpxClient, OpenAI

        self.model = model
        self._base_url = base_url
        self._key = _read_key()
        self._form: int | None = None
        self._client = OpenAI(
            api_key=self._key or "none",  # the client needs a text, local servers accept any
            base_url=base_url,
            timeout=timeout,
            max_retries=retries,
            # Texts are sent to the given address only: no redirects, no proxy for this machine.
            http_client=DefaultHttpxClient(
                follow_redirects=False, trust_env=not _is_loopback(base_url)
            ),
        )

    def ask(self, *, instructions: str, texts: str, schema: Mapping[str, Any]) -> Reply:
        """Sends one request.

        Args:
            instructions: The system message.
            texts: The user message.
            schema: JSON schema of the answer.

        Raises:
            RefusedError: The endpoint refuses these texts.
            UnreachableError: No answer came after all retries.
            ConfigError: No request can succeed: the key, the model or the address is wrong.
        """
        import openai

        forms = range(len(_FORMS)) if self._form is None else [self._form]
        for form in forms:
            try:
                reply = self._send(_FORMS[form], instructions, texts, schema)
            except openai.APIStatusError as error:
                if error.status_code in (400, 422) and form != forms[-1]:
                    continue
                raise self._explain(error) from None  # the original holds the key
            except openai.APIConnectionError as error:  # timeouts too
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
        """Turns an error of the client into one with a readable message.

        The key is masked, since some servers repeat it.
        """
        message = " ".join(error.message.split()).removeprefix(
            f"Error code: {error.status_code} - "
        )
        if self._key:
            message = message.replace(self._key, "***")
        message = f"{self._base_url} answered {error.status_code}: {message:.300}"
        status = error.status_code
        if status in _PERMANENT:
            return ConfigError(f"{message}; {_PERMANENT[status]}")
        if status < 400:
            return ConfigError(f"{message}; redirects are not followed: give the address it names")
        return RefusedError(message) if status in _REFUSALS else UnreachableError(message)


def _read(answer: Any) -> Reply:
    """Reads content and token counts of an answer; an answer of another shape is read as empty.

    The client does not check types, and a proxy may answer instead of the endpoint.
    """
    try:
        content, usage = answer.choices[0].message.content, answer.usage
    except (AttributeError, IndexError, TypeError):
        return Reply()
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    sent, answered = (count if isinstance(count, int) else 0 for count in counts)
    return Reply(content if isinstance(content, str) else "", sent, answered)


def check_endpoint(base_url: str) -> None:
    """Raises unless a client can be made. Call before long work.

    Raises:
        ConfigError: The package openai is not installed, the key has wrong characters, or
            `base_url` is not an http(s) address or holds a password, which would be printed.
    """
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        sound = False
    if not sound or "@" in parts.netloc:
        raise ConfigError(
            "--base-url must be an address like http://localhost:8000/v1, without name or "
            f"password (the key is read from the environment variable {KEY})"
        )
    _read_key()
    if find_spec("openai") is None:
        raise ConfigError(
            "--by language-model needs the package openai; install it with: "
            f"{install_command('labels')}"
        )


def _is_loopback(base_url: str) -> bool:
    """Tells whether an address is of this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")


def _read_key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {KEY} holds characters that no key has")
    return key
