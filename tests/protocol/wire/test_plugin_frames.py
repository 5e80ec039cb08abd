"""Frames on the socket pair: whole, byte by byte, and what is none."""

import pytest

from co2.errors import BadRequest
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames import frames as f
from co2.values import pack

RAW = pack({"data": [1, "shrubbery", 0.815]})
BATCH = make_batch([RAW, RAW])

HOST = [
    f.Load("ham", "/plugins", {"role": "satellite"}, {"port": 1}, 5.0, 10.0, 2048),
    f.Make(),
    f.Takeover("ham.spam.X_Spam", RAW),
    f.Start({"ham.spam.X_Spam": f.Progress(3, 4)}),
    f.Deliver(1, 48, 0, "a@127.0.0.1:1", ("127.0.0.1", 1), BATCH, "ham.spam.X_Spam", 1),
    f.Gap(3, 17, 29, "retention"),
    f.Call(7, "ham.spam.call_me", RAW),
    f.Flow(False),
    f.Flushed(4, "the relay is away"),
    f.Answered(9, RAW),
    f.Answered(10, b"\xc0", -32601, "no such method"),
    f.Hosts(11, [f.Host("a@127.0.0.1:1", ["ham.spam.call_me"], ["ham.spam.X_Spam"], True)], more=True),
    f.Hosts(0, [], [f.Host("a@127.0.0.1:1")]),
    f.Handover(2),
    f.Resume(),
    f.Stop(3.0, True),
]
CHILD = [
    f.Checked("17d95d1d6bbd", True),
    f.Loaded(
        [f.PluginInfo("n", "t", True, "h", ["stage.>"], True)], [f.MethodInfo("m", "", [["any", "struct"]])], ["w"]
    ),
    f.LoadFailed("problem", "file:1", "trace", True),
    f.TakenOver("ham.spam.X_Spam", "ValueError"),
    f.Publish("ham.spam.X_Spam", ["", "stage.left"], BATCH),
    f.Publish("ham.spam.X_Spam", None, BATCH, True),
    f.Flush(4, 2.5),
    f.Applied(9, 1, 2),
    f.Result(7, RAW),
    f.Result(8, b"\xc0", "failed"),
    f.Result(8, b"\xc0", "level: missing", True),
    f.Ask(9, "ham.spam.call_me", "", RAW, 30.0),
    f.AskHosts(11),
    f.Record("ham.spam.X_Spam", 20, "text"),
    f.Stumbled("ham.spam.X_Spam", "ValueError"),
    f.HandedOver(2, "ham.spam.X_Spam", RAW),
    f.HandedOver(2, "ham.spam.X_Spam", None, "KeyError"),
    f.Exited(),
    f.Goodbye(),
]


@pytest.mark.parametrize(("sender", "frames"), [("host", HOST), ("child", CHILD)])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_frames_come_out_as_they_went_in(sender: str, frames: list[object], size: int) -> None:
    stream = b"".join(map(f.encode_frame, frames))  # type: ignore[arg-type]
    reader = f.FrameReader(sender)
    out = [frame for at in range(0, len(stream), size) for frame in reader.feed(stream[at : at + size])]
    assert [type(frame) for frame in out] == [type(frame) for frame in frames]
    assert b"".join(map(f.encode_frame, out)) == stream


@pytest.mark.parametrize("bad", [b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\x91\xa0", b"\xff\xff\xff\xff"])
def test_what_is_no_frame_is_refused(bad: bytes) -> None:
    with pytest.raises(BadRequest):
        f.FrameReader("child").feed(bad)


def test_a_frame_of_the_other_side_is_refused() -> None:
    with pytest.raises(BadRequest):
        f.FrameReader("child").feed(f.encode_frame(f.Stop(1.0)))


def test_a_frame_over_the_limit_is_refused_where_it_is_made() -> None:
    with pytest.raises(BadRequest):
        f.encode_frame(f.Record("", 20, "x" * f.MAX_FRAME_SIZE))


def test_a_message_nested_too_deep_spoils_no_frame() -> None:
    deep = b"\x91" * 100_000 + b"\x90"
    batch = make_batch([deep, RAW])
    [frame] = f.FrameReader("child").feed(f.encode_frame(f.Publish("ham.spam.X_Spam", [""], batch)))
    assert frame.batch == batch


def test_a_frame_carries_text_that_is_no_unicode() -> None:
    assert f.text_for_frame("spam \udcff") == "spam \\udcff"
    assert f.text_for_frame("Ni \u2713") == "Ni \u2713"
