"""The receiver, as one that asks for last values."""

from bench.peers.co2_plugins.bench_receiver.receiver import X_Receiver as Receiver


class X_Receiver(Receiver):
    """The relay keeps an index of last values from its first start on."""

    snapshot = True
