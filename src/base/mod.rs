//! What every layer may use and what knows no layer: numbers, patterns, checksums, compression, clock, randomness, files.
