"""Files, descriptors and device nodes (fs/)."""
