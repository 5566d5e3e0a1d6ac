"""The design space: points of axes, what each costs in closed form, and which of them no other beats."""
