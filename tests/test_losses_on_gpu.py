"""The criterion on a GPU, without one: torch's fake tensors have a device but no values, and tell where a host waits."""


