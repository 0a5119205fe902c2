"""Search for a compact raw denoiser with superkernels, distil it, and export it to ONNX (needs PyTorch)."""
