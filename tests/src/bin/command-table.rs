//! Prints the client's table of commands, as the servers on PATH describe them; see `respire_tests::command_table`.

#[tokio::main(flavor = "current_thread")]
async fn main() {
    print!("{}", respire_tests::command_table::generate().await);
}
