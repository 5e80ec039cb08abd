"""The JSON door: messages, calls and the log as JSON over HTTP, behind the same gate as XML-RPC."""
