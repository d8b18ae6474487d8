"""The machinery under the life cycle: CEL, policies, BPMN."""
