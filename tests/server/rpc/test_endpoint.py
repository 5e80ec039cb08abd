"""One answer that is encoded in steps."""

from co2.server.rpc.endpoint import Encoding, Endpoint, RpcAnswer
from co2.xmlrpc.registry import Registry
from co2.xmlrpc.writer import Steps, response_steps

LONG = [{"name": f"host-{number}", "data": "x" * 100} for number in range(2_000)]


def whole(encoding: Encoding) -> RpcAnswer:
    while (answer := encoding.step()) is None:
        pass
    return answer


def test_what_was_encoded_is_not_kept_when_it_begins_anew() -> None:
    ended = []

    def begin() -> Steps:
        try:
            return (yield from response_steps(LONG))
        finally:
            ended.append(True)

    endpoint = Endpoint(Registry())
    encoding = Encoding(endpoint, "ham", begin)
    assert not encoding.is_begun
    assert encoding.step() is None
    assert (encoding.is_begun, ended) == (True, [])
    encoding.begin_anew()
    assert ended == [True], "the steps that had begun are over"
    answer = whole(encoding)
    assert answer.size == whole(Encoding(endpoint, "ham", lambda: response_steps(LONG))).size
