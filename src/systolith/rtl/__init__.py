"""The SystemVerilog core, its testbench, and the simulators that run them. Never imports torch."""
