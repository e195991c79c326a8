"""What an integration imports from others, and what to install if it is not there."""

from collections.abc import Iterator
from contextlib import contextmanager

from subspace.errors import ConfigError, install_command


@contextmanager
def importing(package: str, *, module: str, extra: str) -> Iterator[None]:
    """Turns a missing package into a sentence that says what to install.

    Args:
        package: Name of the distribution, such as `langchain-core`.
        module: Module that it brings, such as `langchain_core`.
        extra: The extra of this package that installs it.

    Raises:
        ConfigError: The module, or a part of it, is not installed. Errors of other modules pass
            through.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        if name != module and not name.startswith(f"{module}."):
            raise
        raise ConfigError(
            f"this integration needs the package {package}: {install_command(extra)}"
        ) from error
