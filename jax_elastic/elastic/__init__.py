"""The families: one file or small package per paper."""
