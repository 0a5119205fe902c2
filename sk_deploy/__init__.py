"""Run a compact raw denoiser on raw photographs: numpy and ONNX Runtime, no PyTorch."""
