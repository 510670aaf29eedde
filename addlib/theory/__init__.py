"""What a loss curve and an observer of few columns must do: exact levels and shares, bounds."""
