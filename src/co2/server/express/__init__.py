"""The event loop: who is served first, and small frames that are passed on before Python has seen them."""
