"""What single calls cost, without a broker: ``python -m pytest benchmarks/micro [--benchmark-json=PATH] [-v]``."""
