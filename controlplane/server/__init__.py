"""HTTP: what a request asks for, and how the answer is put."""
