"""The receiver, as one that asks for the times of messages."""

from bench.peers.co2_plugins.bench_receiver.receiver import X_Receiver as Receiver


class X_Receiver(Receiver):
    """Every message has a key ``at``."""

    times = True
