"""Every limit of the server, named. Reaching one has an answer of its own and is counted; none is silent."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one HTTP server.

    Attributes:
        max_body: bytes of a request's body; more: 413, before it is read.
        max_line: bytes of the request line (414) and of one header line (431).
        max_head: bytes of the request line and all header lines; more: 431.
        max_headers: header lines; more: 431.
        max_chunks: chunks of a chunked body; more: 400.
        max_newcomers: connections that have not sent one complete request yet; more: the oldest are dropped, once
            they are ``newcomer_grace`` seconds old.
        max_newcomers_per_address: the same for one address.
        newcomer_grace: see there: whoever opens many at once and has something to say has said it by then.
        max_connections: all connections; one more: of the address that has most of them the one idle for longest
            is dropped or, where none is idle, the call that waits for longest is answered with what there is;
            where none waits the new one is dropped. Never more than half of the files that the process may open.
        address_share: part of all connections that one address may have.
        loopback_share: the same for this machine's loopback interface.
        kept_for_loopback: connections that are kept free for it, so that its owner gets in; at most an eighth.
        max_over: connections over the limits while calls that gave way are being answered.
        max_pipelined: bytes of further requests that are read while one is answered, or its answer is not read,
            but for what comes with one read.
        max_unread: bytes of incomplete bodies of all connections together; over it the oldest is dropped.
        max_unfinished: bytes of frames that are not complete, of all links together; over it the oldest one of the
            address that holds most ends, with its link.
        max_unsent: bytes of answers that nobody reads, of all connections together; over it the oldest is dropped.
        head_timeout: seconds from the first byte of a request (or the connection's start) to the end of its head;
            more: 408.
        body_timeout: seconds for the body; more: 408.
        body_rate: bytes per second that a body must come with, on the average, once it takes longer than
            ``body_grace`` seconds; less: 408.
        body_grace: see there.
        write_timeout: seconds for an answer to leave, and one more for each ``write_rate`` bytes; more: dropped.
        write_rate: see there.
        idle_timeout: seconds between two requests of a connection; more: closed.
        linger_timeout: seconds that a refused sender is heard out, so that it can read why.
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
