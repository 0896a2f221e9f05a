"""What everything else is made with: no physics."""
