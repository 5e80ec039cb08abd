"""All limits of the HTTP server. Each has its own answer, or reason in the log, and is counted; none is silent."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one HTTP server.

    Attributes:
        max_body: bytes of a request's body; more: 413, before the body is read.
        max_line: bytes of the request line (414) and of one header line (431).
        max_head: bytes of the request line and all header lines; more: 431.
        max_headers: header lines; more: 431.
        max_chunks: chunks of a chunked body; more: 400.
        max_newcomers: connections that have not sent a complete request yet; more: the oldest are dropped, if
            they are older than ``newcomer_grace``.
        max_newcomers_per_address: the same for one address.
        newcomer_grace: seconds in which a newcomer is not dropped: an honest client that opens many connections
            at once sends its requests within that time.
        max_connections: all connections. For one more, a connection of an address with the most of them makes
            room: the one that is idle for longest or, if none is idle, the one whose call waits for longest, which
            is answered with what there is. If no call waits, the new connection is dropped. There are never more
            connections than half of the files that the process may open.
        address_share: part of all connections that one address may have.
        loopback_share: the same for this machine's loopback interface.
        kept_for_loopback: connections that only loopback may use, so that the owner of the machine can always
            connect; at most an eighth of all.
        max_over: connections over the limits, while calls that make room are being answered.
        max_pipelined: bytes of further requests that are read while a request is answered or its answer is not
            read; one read may exceed it.
        max_unread: bytes of incomplete bodies of all connections together; more: the oldest is dropped.
        max_unfinished: bytes of incomplete frames of all links together; more: of the address that holds most, the
            link whose frame has waited for longest is closed.
        max_unsent: bytes of answers that are not read, of all connections together; more: the oldest is dropped.
        head_timeout: seconds from the first byte of a request (or the connection's start) to the end of its head;
            more: 408.
        body_timeout: seconds for the body; more: 408.
        body_rate: bytes per second, on average, of a body that takes longer than ``body_grace``; less: 408.
        body_grace: seconds in which ``body_rate`` does not count.
        write_timeout: seconds for the other side to read an answer, plus a second for each ``write_rate`` bytes;
            more: dropped.
        write_rate: bytes per second, see ``write_timeout``.
        idle_timeout: seconds between two requests of a connection; more: closed.
        linger_timeout: seconds that a connection stays open after a refusal, so that the sender can read it.
        stop_timeout: seconds that answers under way get when the server stops.
    """

    max_body: int = 1024 * 1024
    max_line: int = 8 * 1024
    max_head: int = 32 * 1024
    max_headers: int = 64
    max_chunks: int = 4_096
    max_newcomers: int = 512
    max_newcomers_per_address: int = 32
    newcomer_grace: float = 1.0
    max_connections: int = 4_096
    address_share: float = 0.25
    loopback_share: float = 0.5
    kept_for_loopback: int = 64
    max_over: int = 64
    max_pipelined: int = 64 * 1024
    max_unread: int = 16 * 1024 * 1024
    max_unfinished: int = 64 * 1024 * 1024
    max_unsent: int = 32 * 1024 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    body_rate: int = 1024
    body_grace: float = 5.0
    write_timeout: float = 10.0
    write_rate: int = 64 * 1024
    idle_timeout: float = 75.0
    linger_timeout: float = 2.0
    stop_timeout: float = 1.0
