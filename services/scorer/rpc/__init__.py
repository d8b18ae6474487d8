"""Open Inference Protocol V2 over gRPC, in a process of its own: REST pays nothing for it."""
