"""Cases: functions with annotated inputs, and the files that hold them."""
