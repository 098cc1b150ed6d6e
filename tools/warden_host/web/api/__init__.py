"""The API for web applications: HTTP and a WebSocket, each call under an application's token."""
