"""How vectors lie: components, angles, Fourier bases, progress measures. Tensors in, numbers out."""
