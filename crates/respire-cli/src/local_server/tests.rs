use super::*;

/// Sends one command in the inline form and returns the first bytes of the answer.
fn ask(mut stream: impl Read + Write, line: &str) -> String {
    stream.write_all(line.as_bytes()).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let mut answer = [0; 512];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

fn ask_on_socket(server: &LocalServer, line: &str) -> String {
    ask(UnixStream::connect(server.socket_path()).unwrap(), line)
}

fn is_alive(process_id: u32) -> bool {
    // A process that has ended but is not reaped yet is no longer alive.
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not happen in 20 s");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn both_flavours_answer_on_their_socket_and_are_who_they_say() {
    for (flavour, name) in [(Flavour::Valkey, "valkey"), (Flavour::Redis, "redis")] {
        let server = LocalServer::start(flavour).unwrap();
        assert_eq!(ask_on_socket(&server, "PING"), "+PONG\r\n");
        let info = ask_on_socket(&server, "INFO server");
        assert_eq!(info.contains("valkey_version"), name == "valkey", "{info}");
        assert_eq!(server.tcp_url(), None);
        assert!(server.url().starts_with("unix:///"), "{}", server.url());
    }
}

#[test]
fn keeps_nothing_on_disk_by_default() {
    let server = LocalServer::start(Flavour::Valkey).unwrap();
    let config = ask_on_socket(&server, "CONFIG GET save");
    assert_eq!(config, "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    let config = ask_on_socket(&server, "CONFIG GET appendonly");
    assert_eq!(config, "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n");
}

#[test]
fn also_listens_on_a_loopback_port_when_asked() {
    let server = LocalServer::builder(Flavour::Redis).tcp().start().unwrap();
    let address = server.tcp_address().unwrap();
    assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    assert_eq!(ask(std::net::TcpStream::connect(address).unwrap(), "PING"), "+PONG\r\n");
    assert_eq!(server.tcp_url(), Some(format!("redis://{address}")));
}

#[test]
fn servers_started_at_once_get_ports_of_their_own() {
    let start = || LocalServer::builder(Flavour::Valkey).tcp().start().unwrap();
    let handles: Vec<_> = (0..4).map(|_| thread::spawn(start)).collect();
    let servers: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    let mut ports: Vec<_> = servers.iter().map(|server| server.tcp_address().unwrap()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), servers.len());
}

#[test]
fn survives_a_kill_with_its_data_port_and_directory_when_it_persists() {
    let mut server = LocalServer::builder(Flavour::Valkey).tcp().persistent().start().unwrap();
    let (address, directory) = (server.tcp_address(), server.directory().to_owned());
    assert_eq!(ask_on_socket(&server, "SET kept 1"), "+OK\r\n");
    let first = server.process_id().unwrap();

    server.kill();
    assert_eq!(server.process_id(), None);
    assert!(!is_alive(first));
    assert!(UnixStream::connect(server.socket_path()).is_err());

    server.restart().unwrap();
    assert_ne!(server.process_id(), Some(first));
    assert_eq!((server.tcp_address(), server.directory()), (address, &*directory));
    assert_eq!(ask_on_socket(&server, "GET kept"), "$1\r\n1\r\n");
}

#[test]
fn a_password_is_no_obstacle_to_the_start() {
    let args = ["--requirepass", "x"];
    let server = LocalServer::builder(Flavour::Redis).args(args).start().unwrap();
    assert!(ask_on_socket(&server, "GET any").starts_with("-NOAUTH"));
}

#[test]
fn a_missing_program_is_named() {
    let builder = LocalServer::builder(Flavour::Valkey).program("no-such-server");
    let error = builder.start().unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(error.to_string(), "there is no `no-such-server` on PATH");
}

#[test]
fn an_early_end_is_reported_with_the_servers_own_words() {
    let error =
        LocalServer::builder(Flavour::Valkey).args(["--no-such-option", "1"]).start().unwrap_err();
    assert!(matches!(error, LocalServerError::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

/// A shell script in place of a server. It is given the server's arguments.
fn script(directory: &Path, lines: &str) -> PathBuf {
    let path = directory.join("script");
    // Written by another process: a file that another thread's child has inherited open for
    // writing cannot be run.
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod 700 "$2""#;
    let mut command = Command::new("sh");
    let status = command.args(["-c", write, "sh", lines]).arg(&path).status().unwrap();
    assert!(status.success());
    path
}

#[test]
fn an_early_end_without_a_word_is_called_that() {
    let directory = TempDir::new().unwrap();
    let builder = LocalServer::builder(Flavour::Valkey);
    let error = builder.program(script(directory.path(), "exit 7")).start().unwrap_err();
    let message = error.to_string();
    assert!(message.ends_with("ended at its start (exit status: 7) and said nothing"), "{message}");
}

#[test]
fn a_start_is_given_up_when_asked_and_takes_its_descendants_with_it() {
    let directory = TempDir::new().unwrap();
    let pid_file = directory.path().join("pid");
    let lines = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid_file.display());
    let stop = CancellationToken::new();
    let builder = LocalServer::builder(Flavour::Valkey).stop_when(stop.clone());
    let builder = builder.program(script(directory.path(), &lines));
    let starting = thread::spawn(move || builder.start());
    wait_until("the script", || pid_file.exists());
    let descendant = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(is_alive(descendant));
    stop.cancel();
    let error = starting.join().unwrap().unwrap_err();
    assert!(matches!(error, LocalServerError::Stopped { .. }), "{error:?}");
    wait_until("the descendant's end", || !is_alive(descendant));
}

#[test]
fn what_outlives_the_process_that_was_started_is_ended_with_it() {
    let directory = TempDir::new().unwrap();
    let pid_file = directory.path().join("pid");
    let lines = format!("sleep 1000 & echo $! > {}", pid_file.display());
    let builder = LocalServer::builder(Flavour::Valkey);
    let error = builder.program(script(directory.path(), &lines)).start().unwrap_err();
    assert!(matches!(error, LocalServerError::Exited { .. }), "{error:?}");
    let descendant = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    wait_until("the descendant's end", || !is_alive(descendant));
}

#[test]
fn a_taken_port_that_was_asked_for_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = LocalServer::builder(Flavour::Valkey).tcp_port(port).start().unwrap_err();
    assert!(error.is_address_in_use(), "{error}");
}

#[test]
fn stopping_and_panicking_leave_neither_process_nor_directory() {
    let server = LocalServer::start(Flavour::Valkey).unwrap();
    let (process_id, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    server.stop().unwrap();
    assert!(!is_alive(process_id) && !directory.exists());

    let server = LocalServer::start(Flavour::Valkey).unwrap();
    let (process_id, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    let panicking = thread::spawn(move || {
        let _server = server;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicking.join().is_err());
    assert!(!is_alive(process_id) && !directory.exists());
}

#[test]
fn the_watchdog_ends_a_server_whose_owner_is_gone() {
    let mut server = LocalServer::start(Flavour::Valkey).unwrap();
    let (process_id, directory) = (server.process_id().unwrap(), server.directory().to_owned());
    // What an owner's sudden end looks like from the watchdog's side: its input ends.
    let process = server.running.as_mut().unwrap();
    process.watchdog.as_mut().unwrap().hang_up();
    wait_until("the server's end", || !is_alive(process_id));
    wait_until("the directory's removal", || !directory.exists());
}
