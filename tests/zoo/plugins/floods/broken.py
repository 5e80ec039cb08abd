import threading

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.going = False

    def x_flood(self, data_dict):
        """Send as fast as it goes, from three threads, until told to stop."""
        self.going = data_dict["data"]
        for _ in range(3 if self.going else 0):
            threading.Thread(target=self.flood, daemon=True).start()
        return True

    def flood(self):
        while self.going:
            try:
                self.send({"data": "x" * 500})
            except TimeoutError:
                pass
