"""What the tables and the list of claims are made of; built from the store of runs alone (torch is never imported)."""
