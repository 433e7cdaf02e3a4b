"""The wheels: made for every target by one machine, looked into, and tried on the Pythons that they are for."""
