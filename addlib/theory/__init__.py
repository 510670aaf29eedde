"""What a loss curve must do: exact levels, bounds, and rules for plateaus, falls and spikes."""
