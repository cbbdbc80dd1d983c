"""The stages that a set of schedules needs: found once, converted to ONNX, built as engines."""
