"""Home Assistant's MQTT discovery: what it needs to show a device's values.

Source: the page "MQTT" of Home Assistant's documentation, section "MQTT Discovery".
"""

from typing import Any

from warden_host.bridge.view import Value

Topic = str


def value_config(
    prefix: str,
    state: Topic,
    availability: Topic,
    device: str,
    type_: str,
    name: str,
    value: Value,
) -> tuple[Topic, dict[str, Any]]:
    """Return topic and payload that announce one value of a device.

    prefix: of discovery, such as homeassistant. state: the topic with all values as JSON.
    """
    component = "binary_sensor" if isinstance(value, bool) else "sensor"
    config = _config(state, availability, device, type_, name)
    # In a template, value_json.values is the method of a dict. Without the value: None, unknown.
    config["value_template"] = f"{{{{ value_json['values'].get('{name}') }}}}"
    if component == "binary_sensor":
        config |= {"payload_on": "True", "payload_off": "False"}
    elif not isinstance(value, str):
        config["state_class"] = "measurement"
    return f"{prefix}/{component}/warden_{device}/{name}/config", config


def online_config(
    prefix: str, state: Topic, availability: Topic, device: str, type_: str
) -> tuple[Topic, dict[str, Any]]:
    """Return topic and payload that announce whether the device is online."""
    config = _config(state, availability, device, type_, "online")
    config |= {
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "value_template": "{{ value_json.online }}",
        "payload_on": "True",
        "payload_off": "False",
    }
    del config["availability"]
    return f"{prefix}/binary_sensor/warden_{device}/online/config", config


def _config(
    state: Topic, availability: Topic, device: str, type_: str, name: str
) -> dict[str, Any]:
    return {
        "name": name.replace("_", " "),
        "unique_id": f"warden_{device}_{name}",
        "object_id": f"{device}_{name}",
        "state_topic": state,
        "availability": [{"topic": availability}],
        "device": {"identifiers": [f"warden_{device}"], "name": device, "model": type_},
        "origin": {"name": "warden"},
    }
