"""Other people's models: QONNX, QDQ and course checkpoints, as torch models of frozen integer layers."""
