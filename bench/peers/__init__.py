"""What users would pick instead, on libraries of their own: MLServer and BentoML with the same model."""
