//! The `respire` command.
fn main() {}
