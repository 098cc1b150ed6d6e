"""Close connections at a RabbitMQ that `warden` does not run.

May import `fleet`; `broker.rabbitmq.management` is its only entry point.
"""
