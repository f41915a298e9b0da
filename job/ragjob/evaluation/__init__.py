"""How good a run is: its answers and passages measured against labels, and against another run."""
