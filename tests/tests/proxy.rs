//! The proxy's faults are what they are said to be.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use respire_tests::proxy::{Fault, FaultProxy, Place, Script, Way};
use tokio::net::TcpListener;

/// Longer than anything here takes; a read that waits for so long has nothing to read.
const QUIET: Duration = Duration::from_millis(300);

/// A server that sends back what it gets, and ends when its client does.
async fn echo() -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let place = Place::Tcp(listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    place
}

async fn proxy(script: Script) -> (FaultProxy, TcpStream) {
    let proxy = FaultProxy::tcp(echo().await, move |_| script.clone()).await.expect("a port");
    let stream = connect(&proxy).expect("it listens");
    (proxy, stream)
}

fn connect(proxy: &FaultProxy) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(proxy.url().trim_start_matches("redis://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// What comes until the stream ends, and how it ends.
fn rest(mut stream: impl Read) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).err().map(|error| error.kind());
    (bytes, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_script_passes_everything_and_the_end() {
    let (_proxy, mut stream) = proxy(Script::clean()).await;
    let sent: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(rest(&mut stream) == (sent, None));
    writing.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_holds_back_and_pieces_change_nothing() {
    let delay = Duration::from_millis(80);
    let slow = Way::clean().delayed(delay).in_pieces(1);
    let (_proxy, mut stream) = proxy(Script::clean().to_server(slow.clone()).to_client(slow)).await;
    let start = Instant::now();
    stream.write_all(b"a few bytes").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&stream), (b"a few bytes".to_vec(), None));
    assert!(start.elapsed() >= 2 * delay);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_takes_its_time() {
    let (_proxy, mut stream) =
        proxy(Script::clean().to_client(Way::clean().throttled(10_000).in_pieces(100))).await;
    let start = Instant::now();
    stream.write_all(&[7; 2_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&stream), (vec![7; 2_000], None));
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_come_after_as_many_bytes_as_they_say() {
    let text = b"0123456789";
    for (fault, expected, end) in [
        (Fault::Cut, &b"0123"[..], None),
        (Fault::HalfClose, b"0123", None),
        (Fault::Garble, b"0123\x01\x01\x01\x01\x01\x01", None),
        (Fault::Pause(Duration::from_millis(20)), text, None),
    ] {
        let (_proxy, mut stream) =
            proxy(Script::clean().to_client(Way::clean().then(4, fault))).await;
        stream.write_all(text).unwrap();
        if matches!(fault, Fault::Garble | Fault::Pause(_)) {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(rest(&stream), (expected.to_vec(), end), "{fault:?}");
    }
    let (_proxy, mut stream) =
        proxy(Script::clean().to_server(Way::clean().then(4, Fault::Reset))).await;
    stream.write_all(text).unwrap();
    assert_eq!(rest(&stream).1, Some(ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_way_leaves_the_other_open() {
    let way = Way::clean().then(3, Fault::HalfClose);
    let (_proxy, mut stream) = proxy(Script::clean().to_server(way)).await;
    // The echo ends when it sees the end, and with it the stream to us, in order.
    stream.write_all(b"0123456789").unwrap();
    assert_eq!(rest(&stream), (b"012".to_vec(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_holds_up_the_sender_and_swallowing_does_not() {
    for (fault, takes_all) in [(Fault::Stall, false), (Fault::Swallow, true)] {
        let (_proxy, mut stream) =
            proxy(Script::clean().to_server(Way::clean().then(0, fault))).await;
        stream.set_write_timeout(Some(QUIET)).unwrap();
        let piece = vec![0; 1 << 20];
        // More than the sockets' buffers and the proxy hold.
        let sent = (0..64).take_while(|_| stream.write_all(&piece).is_ok()).count();
        assert_eq!(sent == 64, takes_all, "{fault:?}: {sent} MiB");
        stream.set_read_timeout(Some(QUIET)).unwrap();
        assert!(rest(&stream).1.is_some(), "nothing comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_connection_is_accepted_and_silent() {
    let (proxy, mut stream) = proxy(Script::frozen()).await;
    stream.write_all(b"hello?").unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    assert!(rest(&stream).1.is_some_and(|kind| kind != ErrorKind::ConnectionReset));
    proxy.reset_all();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(rest(&stream).1, Some(ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_refused_and_then_open_again() {
    let (mut proxy, mut old) = proxy(Script::clean()).await;
    old.write_all(b"1").unwrap();
    old.read_exact(&mut [0]).unwrap();
    proxy.refuse();
    // While the listener is being closed, a connection may still be taken in or be reset.
    let refused = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        connect(&proxy).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(refused);
    old.write_all(b"still here").unwrap();
    old.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&old), (b"still here".to_vec(), None));
    proxy.accept().unwrap();
    assert!(connect(&proxy).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_as_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.sock");
    let cut = Script::clean().to_client(Way::clean().then(5, Fault::Cut));
    let mut proxy = FaultProxy::unix(path.clone(), echo().await, move |_| cut.clone()).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"0123456789").unwrap();
    assert_eq!(rest(&stream), (b"01234".to_vec(), None));
    proxy.refuse();
    proxy.accept().unwrap();
    assert!(UnixStream::connect(&path).is_ok());
}
