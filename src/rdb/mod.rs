//! The RDB format, in and out.
