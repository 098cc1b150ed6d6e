"""The bridge: what devices report, for programs that don't speak Warden's protocol.

A process of its own, and a caller of the control socket like any operator. Entry point:
`Bridge` in bridge.py; `outlets`: metrics.py and sse.py at web.py's HTTP server, and mqtt.py.
"""
