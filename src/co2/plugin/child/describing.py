"""The answers to Describe: schemas of methods, of the configuration, and of what the plugins send."""

from collections.abc import Sequence
from typing import Any

from co2.plugin.packages.loader import FoundPlugin
from co2.plugin.packages.schemas import config_schema, method_schema, sent_schemas
from co2.plugin.packages.tracebacks import error_line
from co2.plugin.packages.typed_config import Configs
from co2.protocol.wire.plugin_frames.frames import Describe, Result, text_for_frame
from co2.values import pack_value

__all__ = ["describe"]


def describe(frame: Describe, found: Sequence[FoundPlugin], configs: Configs) -> Result:
    """Return the answer to a Describe.

    Args:
        frame: what to describe.
        found: the plugins of the package.
        configs: its configuration.
    """
    try:
        return Result(frame.call_id, pack_value(_described(frame, found, configs)))
    except BaseException as error:  # whatever the author's types do, the host waits for an answer
        what = frame.method or f"the {frame.what} of the package"
        return Result(frame.call_id, pack_value(None), text_for_frame(f"{what}: no schema: {error_line(error)}"))


def _described(frame: Describe, found: Sequence[FoundPlugin], configs: Configs) -> Any:
    if frame.what == "config":
        return config_schema(configs.forms)
    if frame.what == "sends":
        return [
            {"channel": channel, "plugin": one.name, "data": schema}
            for one in found
            for channel, schema in sent_schemas(one.kind.sends).items()
        ]
    one = next(one for one in found if frame.method in one.methods)
    attribute = one.methods[frame.method]
    return method_schema(getattr(one.kind, attribute), one.parameters.get(attribute))
