"""Change users and connections at a RabbitMQ that `warden` does not run.

May import `fleet`; `management` and, for what connections sent, `traffic` are its entry points.
"""
