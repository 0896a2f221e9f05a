"""What replaces the delta function of energy conservation on a finite mesh."""
