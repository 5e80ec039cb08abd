"""The ways into a package, opened and closed together: messages, calls, and messages that pass its relay plugins.

Open, they lead to the generation that carries the package. Held, what comes waits for the next one, or until the
same one goes on. Closed, calls fail and messages pass the relay plugins by; messages for the package itself wait,
for they outlive every generation.
"""

from dataclasses import dataclass

from co2.plugin.parent.calls_in import CallsIn
from co2.plugin.parent.delivery import NETWORK, Delivery
from co2.plugin.parent.filter_stage import PackageFilters
from co2.plugin.parent.generation import Generation

__all__ = ["Gates"]


@dataclass(frozen=True, slots=True)
class Gates:
    """The ways into one package.

    Attributes:
        delivery: its messages.
        calling: calls of its methods.
        passing: messages on their way through its relay plugins.
    """

    delivery: Delivery
    calls_in: CallsIn
    filters: PackageFilters

    def open(self, one: Generation, before: Generation | None) -> None:
        """Lead to a generation, and give it first what the one before it did not do.

        Args:
            one: which is told to start.
            before: the generation that carried the package before; None for none.
        """
        if not one.receives:
            self.delivery.forget()
            self.delivery.forget_given()
        elif one.durable and (before is None or not before.durable):
            # What siblings have sent while that was not known comes from the relay.
            self.delivery.forget(but=NETWORK)
        self.delivery.begin(one.send)
        self.calls_in.begin(one.send)
        self.filters.begin(one.send, one.plugins)

    def hold(self) -> None:
        """Let what comes wait until :meth:`open` or :meth:`resume`."""
        self.delivery.hold()
        self.calls_in.hold()
        self.filters.hold()

    def resume(self, one: Generation) -> None:
        """Lead to a generation that still has all that it was given."""
        self.delivery.resume(one.send)
        self.calls_in.resume(one.send)
        self.filters.resume(one.send)

    def lose(self, why: str, *, on_trial: bool) -> None:
        """End what the generation had: it died, and what follows is not known yet.

        Args:
            why: for those whose calls it had; calls that come now wait.
            on_trial: the old code comes back, and is given what is on its way through relay plugins.
        """
        self.delivery.hold()
        self.calls_in.lose(why)
        if on_trial:
            self.filters.hold()
        elif not self.filters.held:
            self.filters.lose()

    def close(self, why: str, state: str) -> None:
        """End what is under way: nobody carries the package.

        Args:
            why: for those whose calls are under way.
            state: of the package, for those who call it from here on.
        """
        self.delivery.hold()
        self.calls_in.end(why, state)
        self.filters.lose()
