"""Stands beside the broken ones, and must miss nothing."""

from co2 import plugin


class X_Mind(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.numbers = []

    def receive(self, data_dict):
        if isinstance(data_dict["data"], int):
            self.numbers.append(data_dict["data"])

    def x_numbers(self, data_dict):
        return self.numbers
