"""The plugins of the soak: one that sends and says what is safe, one that writes down what it gets."""

__all__ = ["RECEIVER", "SENDER"]

SENDER = '''
import os, secrets, threading, time
from co2 import plugin

class X_Sender(plugin.Co2Plugin):
    """Counts aloud while the file ``go`` is there. Each process of it is a run of its own."""

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.run = secrets.token_hex(6)
        self.sent = 0
        self.busy = True
        self.file = open("sent", "ab", buffering=0)
        with open("pids-snd", "ab", buffering=0) as file:
            file.write(f"{os.getpid()} {self.run}\\n".encode())
        threading.Thread(target=self._count, daemon=True).start()
        threading.Thread(target=self._flush, daemon=True).start()

    def _tell(self, word, number):
        self.file.write(f"{word} {self.run} {number}\\n".encode())

    def _count(self):
        while True:
            self.busy = True
            if not os.path.exists("go"):
                self.busy = False
                time.sleep(0.02)
                continue
            for _ in range(10):
                pad = "x" * (2000 if self.sent % 50 == 0 else 0)
                try:
                    self.send({"data": [self.run, self.sent], "pad": pad})
                except TimeoutError:
                    break
                self.sent += 1
            time.sleep(0.02)

    def _flush(self):
        told, ended = 0, False
        while True:
            time.sleep(0.1)
            going, sent = os.path.exists("go"), self.sent
            ended = ended and not going
            if ended or (going and sent == told):
                continue
            try:
                self.flush(5)
            except Exception:
                continue
            ended = not going and not self.busy and sent == self.sent
            self._tell("END" if ended else "FLUSHED", sent)
            told = sent
'''

RECEIVER = '''
import os
from co2 import plugin

class X_Receiver(plugin.Co2Plugin):
    """Writes down each message before it goes on."""

    durable = {durable}

    def __init__(self, var_dict):
        super().__init__(var_dict)
        self.file = open("got-{name}", "ab", buffering=0)
        self.file.write(f"START {{os.getppid()}} -\\n".encode())
        with open("pids-rcv", "ab", buffering=0) as file:
            file.write(f"{{os.getpid()}} -\\n".encode())

    def receive(self, data_dict):
        run, number = data_dict["data"]
        word = "AGAIN" if data_dict.get("repeat") else "GOT"
        self.file.write(f"{{word}} {{run}} {{number}}\\n".encode())

    def gap(self, gap):
        self.file.write(("GAP - " + gap["reason"].replace(" ", "_") + "\\n").encode())
'''
