// The design, from the bottom up, and its testbench.
FILES
