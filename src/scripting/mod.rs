//! The Lua engine, its sandbox and libraries, and the registry of functions. Knows commands only through its host trait.
