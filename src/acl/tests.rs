//! Rules against a plain model, and the round trip of texts.
