"""The MQTT broker: who may log in and which topics each account has.

Entry points: backend runs it and changes its accounts, accounts defines them and their rights. May
import: fleet, protocol, store (its packet limit follows the policies). The words and files of one
broker stay in its own package, such as mosquitto, which only this package imports.
"""
