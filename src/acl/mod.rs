//! Users and rules: who may run which command on which keys and channels.
