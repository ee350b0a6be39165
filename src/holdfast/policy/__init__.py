"""Pure decisions: values in, a plan with reasons out; no clock, no I/O."""
