"""Search for a compact raw denoiser with superkernels, distil it, and export it to ONNX (needs PyTorch)."""

import sk_deploy  # noqa: F401  (first: it turns ONNX Runtime's telemetry off)
