"""Exporters: a trained model as an adapter, as merged weights, or as GGUF files for llama.cpp."""
