"""Pages of metrics in Prometheus' form, and the HTTP server that shows them.

Entry points: `Page` (page.py) and `PageServer` (web.py). `bridge` and `service` have a page each;
both need the library prometheus-client, which `pip install warden[bridge]` brings.
"""
