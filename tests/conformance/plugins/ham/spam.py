import json

from co2 import plugin


class X_Spam(plugin.Co2Plugin):
    """Records what it receives and does what it is told."""

    def __init__(self, var_dict):
        plugin.Co2Plugin.__init__(self, var_dict)
        self.var_dict = var_dict
        self.log("spam says %s", "hello log")
        self.debug("spam says %s", "hello debug")

    def receive(self, data_dict):
        kind = type(data_dict["client_address"]).__name__
        with open("spam.jsonl", "a") as file:
            file.write(json.dumps({**data_dict, "address_type": kind}, default=repr) + "\n")

    def x_call_me(self, data_dict):
        """Answer with what was given."""
        return {"called": data_dict["data"]}

    def x_add(self, data_dict: dict) -> int:
        """Add two numbers."""
        return data_dict["data"][0] + data_dict["data"][1]

    def x_send(self, data_dict):
        """Send data[0], with data[1] as further keys."""
        self.send({"data": data_dict["data"][0], **data_dict["data"][1]})
        return True

    def x_send_raw(self, data_dict):
        """Send data as the whole dictionary; tell the error's name."""
        try:
            self.send(data_dict["data"])
        except ValueError as error:
            return type(error).__name__
        return "sent"

    def x_var_dict(self, data_dict):
        """Tell the keys of var_dict."""
        return sorted(self.var_dict)

    def x_names(self, data_dict):
        """Tell str and repr."""
        return [str(self), repr(self)]

    def x_slow(self, data_dict):
        """Take a while."""
        import time

        time.sleep(data_dict["data"])
        return True

    def x_fail(self, data_dict):
        """Raise."""
        raise RuntimeError("the parrot is dead")

    def not_exposed(self, data_dict):
        return "never"


class NotX(plugin.Co2Plugin):
    def x_never(self, data_dict):
        return "never"


class X_NoPlugin:
    def x_neither(self, data_dict):
        return "never"
