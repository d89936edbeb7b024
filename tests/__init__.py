"""The proofs: behaviour that a user would notice, one folder for each room of the house."""
