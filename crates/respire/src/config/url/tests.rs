use super::*;

fn parsed(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    match parse(text) {
        Err(error) => error.to_string(),
        Ok(config) => panic!("{text} was read as {config:?}"),
    }
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

#[test]
fn each_scheme_is_read() {
    for (text, address, tls) in [
        ("redis://h:1", tcp("h", 1), false),
        ("valkey://h:1", tcp("h", 1), false),
        ("rediss://h:1", tcp("h", 1), true),
        ("valkeys://h:1", tcp("h", 1), true),
        ("h:1", tcp("h", 1), false),
        ("h", tcp("h", 6379), false),
        ("10.0.0.1:7000", tcp("10.0.0.1", 7000), false),
        ("[::1]:7000", tcp("::1", 7000), false),
        ("redis://", tcp("localhost", 6379), false),
        ("redis://:7", tcp("localhost", 7), false),
        (":7", tcp("localhost", 7), false),
        ("redis://u:p@", tcp("localhost", 6379), false),
        ("redis://u:p@/1", tcp("localhost", 6379), false),
        ("redis://u:p@:7/1", tcp("localhost", 7), false),
        ("unix:///run/a.sock", Address::Unix("/run/a.sock".into()), false),
        ("redis+unix:///run/a.sock", Address::Unix("/run/a.sock".into()), false),
        ("valkey+unix:///run/a%20b.sock", Address::Unix("/run/a b.sock".into()), false),
    ] {
        let config = parsed(text);
        assert_eq!(*config.address(), address, "{text}");
        assert_eq!(config.uses_tls(), tls, "{text}");
    }
}

#[test]
fn the_name_of_a_transport_is_part_of_the_scheme() {
    for text in ["valkey+mesh://u:p@h:1/2?db=2", "redis+mesh://u:p@h:1/2"] {
        let config = parsed(text);
        assert_eq!(*config.address(), tcp("h", 1));
        assert_eq!((config.user(), config.database()), (Some("u"), 2));
        let error = config.connector().unwrap_err();
        assert!(error.to_string().contains("\"mesh\""), "{error}");
    }
    for (text, tls) in
        [("valkeys+mesh://h", true), ("rediss+mesh://h", true), ("redis+mesh://h", false)]
    {
        let config = parsed(text);
        assert_eq!(config.uses_tls(), tls, "{text}");
        assert!(config.connector().unwrap_err().to_string().contains("\"mesh\""));
    }
    for text in ["valkey+://h", "valkey+a-b://h", "rediss+unix:///h", "mesh+valkey://h"] {
        assert!(refused(text).contains("URL scheme"), "{}", refused(text));
    }
}

#[test]
fn parameters_that_the_client_does_not_know_are_left_to_the_transport() {
    let config = parsed("valkey+mesh://h?mesh_size=7&db=2&mesh_key=s%20t");
    let parameters: Vec<_> = config.transport_parameters().iter().collect();
    assert_eq!(parameters, [("mesh_size", "7"), ("mesh_key", "s t")]);
    assert_eq!(config.database(), 2);
    assert!(!format!("{config:?}").contains("s t"));
    assert!(refused("valkey+mesh://h?size=1&size=2").contains("twice"));
    // What is left of a password that was not encoded is not a name, and is not repeated.
    assert!(!refused("valkey+mesh://u:p@h?Secret=1").contains("Secret"));
    assert!(refused("valkey://h?mesh_size=7").contains("\"mesh_size\""));
}

#[test]
fn credentials_are_decoded() {
    let config = parsed("redis://us%40er:p%3Ass%23w%2Frd@h");
    assert_eq!(config.user(), Some("us@er"));
    assert_eq!(config.password().unwrap().expose(), "p:ss#w/rd");
    let config = parsed("redis://:only@h");
    assert_eq!(config.user(), None);
    assert_eq!(config.password().unwrap().expose(), "only");
    let config = parsed("redis://nopass:@h");
    assert_eq!(config.user(), Some("nopass"));
    assert_eq!(config.password().unwrap().expose(), "");
    let config = parsed("redis+unix:///run/a@b.sock?user=u&pass=p&db=3");
    assert_eq!(*config.address(), Address::Unix("/run/a@b.sock".into()));
    assert_eq!((config.user(), config.database()), (Some("u"), 3));
    let config = parsed("unix://u:p@/run/a.sock?db=3");
    assert_eq!((config.user(), config.database()), (Some("u"), 3));
    assert_eq!(config.password().unwrap().expose(), "p");
}

#[test]
fn the_database_is_in_the_path_or_a_parameter() {
    assert_eq!(parsed("redis://h/5").database(), 5);
    assert_eq!(parsed("redis://h/").database(), 0);
    assert_eq!(parsed("redis://h?db=5").database(), 5);
    assert_eq!(parsed("redis://h/5?db=5").database(), 5);
    assert!(refused("redis://h/5?db=6").contains("two databases"));
    for text in ["redis://h/x", "redis://h/+1", "redis://h/-1", "redis://h/1/2", "redis://h?db="] {
        refused(text);
    }
}

#[test]
fn parameters_are_read() {
    let config = parsed(
        "valkey://h?protocol=resp2&client_name=router&connect_timeout=250ms&command_timeout=2s",
    );
    assert_eq!(config.protocol(), Protocol::Resp2);
    assert_eq!(config.client_name(), Some("router"));
    assert_eq!(config.connect_timeout(), Duration::from_millis(250));
    assert_eq!(config.command_timeout(), Some(Duration::from_secs(2)));
    assert_eq!(parsed("h?command_timeout=0").command_timeout(), None);
    for text in [
        "h?protocol=4",
        "h?connect_timeout=0",
        "h?command_timeout=fast",
        "h?db=1&db=1",
        "h?colour=red",
    ] {
        refused(text);
    }
}

#[test]
fn parameters_of_tls_need_tls_and_each_other() {
    let config = parsed("rediss://h?tls_ca=/a%20b.pem&tls_server_name=other");
    let shown = format!("{:?}", config.tls().unwrap());
    assert!(shown.contains("/a b.pem") && shown.contains("other"), "{shown}");
    for name in ["tls_ca", "tls_cert", "tls_key", "tls_server_name"] {
        for scheme in ["redis", "valkey+mesh"] {
            assert!(refused(&format!("{scheme}://h?{name}=x")).contains("rediss://"));
        }
    }
    for text in ["rediss://h?tls_cert=x", "rediss://h?tls_key=x"] {
        assert!(refused(text).contains("each needs the other"), "{}", refused(text));
    }
    assert!(refused("rediss://h?tls_version_min=1.1").contains("1.2, 1.3"));
    assert!(refused("rediss://h#insecure").contains("tls_ca"));
}

#[test]
fn a_path_without_a_scheme_is_told_how_it_is_written() {
    for text in ["/run/a.sock", "unix:/run/a.sock"] {
        assert!(refused(text).contains("unix:///run/a.sock"), "{}", refused(text));
    }
    for text in ["", " "] {
        assert!(refused(text).contains("empty"), "{}", refused(text));
    }
    assert_eq!(parsed("redis://h/2/").database(), 2);
}

#[test]
fn an_error_names_the_part_and_never_the_credentials() {
    for text in [
        "ftp://user:hunter2@h",
        "redis://user:hunter2@h:99999",
        "redis://user:hunter2@h:0",
        "redis://user:hunter2@h/x",
        "redis://user:hunter2@h?colour=red",
        "redis://user:hunter2#x@h",
        "redis://hunter2@h",
        "redis://user:hunter2%ff@h",
        "unix://user:hunter2@host/run/a.sock",
        "unix://user:hunter2@",
        "redis://user:hunter2@[::1",
        "redis://user:1234?hunter2@h",
        "redis://user:12/hunter2@h:1",
        "redis://user:12#hunter2@h",
        "redis://:12#hunter2@h",
        "redis://h?hunter2=1",
        "unix://user:12?hunter2@/run/a.sock",
    ] {
        let error = refused(text);
        assert!(!error.contains("hunter2"), "{text}: {error}");
        assert!(!format!("{:?}", parse(text)).contains("hunter2"), "{text}");
    }
    let shown = format!("{:?}", parsed("redis://user:hunter2@h"));
    assert!(!shown.contains("hunter2"), "{shown}");
}
