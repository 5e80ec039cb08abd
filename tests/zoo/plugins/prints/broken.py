from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def x_print(self, data_dict):
        """Print so many bytes, in lines or in one."""
        size, newline = data_dict["data"]
        block = ("spam " * 15 + "spam" + newline) * 1000
        for _ in range(size // len(block) + 1):
            print(block, end="")
        print(flush=True)
        return True
