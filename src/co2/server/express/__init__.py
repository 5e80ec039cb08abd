"""The event loop: its order of service, and small frames that are passed on before Python has seen them."""
