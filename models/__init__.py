"""The ONNX models that ship with skdn, each beside its card and its genotype."""
