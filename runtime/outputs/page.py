"""The page of a robot without a screen: an output that fills what `runtime.serve` shows."""

from __future__ import annotations

from runtime.errors import OutputError
from runtime.loop import Step
from runtime.outputs.output import Output, Stream
from runtime.serve.address import Address, Guard
from runtime.serve.gauges import Gauges
from runtime.serve.server import PageServer
from runtime.serve.viewfinder import Viewfinder


class Page(Output):
    """Serves the page and its data, see `runtime.serve`, until it is closed.

    The loop's thread does no more than put each step into a slot. Pictures are drawn and encoded only while
    somebody watches.

    Attributes:
        address: what it listens on; where port 0 was asked for, once open with the one that the system chose.
    """

    kind = "serve"

    def __init__(self, address: Address, *, token: str | None = None) -> None:
        """Choose the address.

        Args:
            address: a loopback address, or any other together with a token.
            token: what every request must bring, as header `Authorization: Bearer`, as query `token=` or
                as the cookie that the page sets; never logged.

        Raises:
            OutputError: an address that needs a token, or a token that is too weak.
        """
        self.address = address
        self._guard = Guard(address, token)
        self._server: PageServer | None = None

    @property
    def name(self) -> str:
        """The page's address, without the token."""
        return f"page on {self.address}"

    @property
    def url(self) -> str:
        """The page's address for a browser, without the token."""
        return f"http://{self.address}/"

    def open(self, stream: Stream) -> None:
        """Start to listen.

        Raises:
            OutputError: an address that cannot be listened on.
        """
        self._outputs = stream.outputs
        self._gauges = Gauges(
            stream.contract,
            stream.source,
            source_name=stream.name,
            outputs=stream.outputs,
            max_age_ms=stream.max_age_ms,
        )
        self._viewfinder = Viewfinder(stream.contract.classes, stream.overlay, stream.ground)
        try:
            self._server = PageServer(
                self.address,
                self._guard,
                self._gauges,
                self._viewfinder,
                alpha=stream.alpha,
                control=self._control,
            )
        except OSError as error:
            raise OutputError(
                f"{self.name}: cannot listen there ({error.strerror or error}); choose another port, or stop "
                "the program that uses it"
            ) from None
        self.address = Address(self.address.host, self._server.port)

    def take(self, step: Step) -> None:
        """Replace the step that is shown."""
        self._gauges.put(step)
        self._viewfinder.put(step)

    def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.stop()

    def _control(self, number: int, paused: bool) -> bool:
        """Pause or resume an output for a viewer."""
        if number >= len(self._outputs) or not self._outputs[number].can_pause:
            return False
        self._outputs[number].pause(paused)
        return True
