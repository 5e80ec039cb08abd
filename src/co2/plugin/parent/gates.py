"""The ways into a package, opened and closed together: messages, calls, and messages to filter.

Open gates lead to the generation that carries the package. Held gates queue all input for the next generation, or
until the same one resumes. Closed gates fail calls and let messages bypass the relay plugins; messages for the
package itself wait, because they outlive every generation.
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
        calls_in: calls of its methods.
        filters: messages on their way through its relay plugins.
    """

    delivery: Delivery
    calls_in: CallsIn
    filters: PackageFilters

    def open(self, one: Generation, before: Generation | None) -> None:
        """Lead to a generation, which first gets the work that its predecessor had not done.

        Args:
            one: the new generation, already started.
            before: the generation that carried the package before; None for none.
        """
        if not one.receives:
            self.delivery.forget()
            self.delivery.forget_given()
        elif one.durable and (before is None or not before.durable):
            # Messages that siblings sent before this was known come from the relay.
            self.delivery.forget(but=NETWORK)
        self.delivery.begin(one.send)
        self.calls_in.begin(one.send)
        self.filters.begin(one.send, one.plugins)

    def hold(self) -> None:
        """Hold all input until :meth:`open` or :meth:`resume`."""
        self.delivery.hold()
        self.calls_in.hold()
        self.filters.hold()

    def resume(self, one: Generation) -> None:
        """Lead to the same generation again; it still has all its work."""
        self.delivery.resume(one.send)
        self.calls_in.resume(one.send)
        self.filters.resume(one.send)

    def lose(self, why: str, *, on_trial: bool) -> None:
        """End the work of a generation that died, before it is known what follows.

        Args:
            why: the error of the calls it had; new calls wait.
            on_trial: the old code comes back and filters the messages under way.
        """
        self.delivery.hold()
        self.calls_in.lose(why)
        if on_trial:
            self.filters.hold()
        elif not self.filters.held:
            self.filters.lose()

    def close(self, why: str, state: str) -> None:
        """End all work under way: no generation carries the package.

        Args:
            why: the error of calls under way.
            state: of the package, for the error of later calls.
        """
        self.delivery.hold()
        self.calls_in.end(why, state)
        self.filters.lose()
