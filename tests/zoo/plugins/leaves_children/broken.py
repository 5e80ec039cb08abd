import os
import threading
import time

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def x_leave(self, data_dict):
        """Leave a process and a thread that does not end; tell the process's pid."""
        threading.Thread(target=time.sleep, args=(1000,)).start()
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
            os._exit(0)
        return pid

    def receive(self, data_dict):
        if data_dict["data"] == "die":
            os._exit(6)
