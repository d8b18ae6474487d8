"""AsyncAPI 3.0 documents of what a service says and hears, generated from the contracts."""

from typing import Any

from contracts import HEARS, SAYS, Event, Service


def document(service: Service, version: str) -> dict[str, Any]:
    """The AsyncAPI document of one service."""
    says, hears = SAYS[service], HEARS[service]
    events = {e.type(): e for e in (*says, *hears)}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": f"Fairlead {service}", "version": version},
        "defaultContentType": "application/json",
        "channels": {name: _channel(event) for name, event in events.items()},
        "operations": {
            **{f"say.{e.type()}": _operation("send", e) for e in says},
            **{f"hear.{e.type()}": _operation("receive", e) for e in hears},
        },
        "components": {"messages": {name: _message(event) for name, event in events.items()}},
    }


def _channel(event: type[Event]) -> dict[str, Any]:
    address = event.topic.of("{endpoint}") if event.topic.per_endpoint else event.topic.name
    channel: dict[str, Any] = {
        "address": address,
        "messages": {event.type(): {"$ref": f"#/components/messages/{event.type()}"}},
    }
    if event.topic.per_endpoint:
        channel["parameters"] = {"endpoint": {"description": "the streaming endpoint"}}
    return channel


def _operation(action: str, event: type[Event]) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{event.type()}"}}


def _message(event: type[Event]) -> dict[str, Any]:
    headers = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_dataschema", "ce_unit")
    return {
        "name": event.type(),
        "title": (event.__doc__ or "").strip().split("\n")[0],
        "contentType": "application/json",
        "headers": {"type": "object", "properties": {name: {"type": "string"} for name in headers}},
        "payload": event.json_schema(),
    }
