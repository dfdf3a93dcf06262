use super::*;

fn facts(info: &str) -> Facts {
    let fields = info.split_whitespace().map(|line| format!("{line}\r\n")).collect::<String>();
    let wire = format!("${}\r\n{fields}\r\n", fields.len());
    let mut decoder = respire_codec::Decoder::default();
    let frame = decoder.decode(&mut bytes::BytesMut::from(wire.as_bytes())).unwrap().unwrap();
    Facts {
        info: frame.value().parse().unwrap(),
        round_trips: vec![Duration::from_micros(100)],
        speaks_resp3: true,
    }
}

/// How a check judges.
fn judged(facts: &Facts, name: &str) -> Level {
    let mut findings = CHECKS.iter().filter_map(|check| check(facts));
    let finding = findings.find(|finding| finding.check == name).unwrap();
    assert_eq!(finding.advice.is_none(), finding.level == Level::Ok, "{finding:?}");
    finding.level
}

#[test]
fn what_a_connection_shows_is_judged() {
    assert_eq!(judged(&facts("evicted_keys:0"), "keys dropped"), Level::Ok);
    assert_eq!(judged(&facts("evicted_keys:3"), "keys dropped"), Level::Warning);
    assert_eq!(judged(&facts("rdb_last_bgsave_status:err"), "last snapshot"), Level::Warning);
    assert_eq!(judged(&facts("loading:1"), "data"), Level::Warning);
    assert_eq!(judged(&facts(""), "protocol"), Level::Ok);
    let old = Facts { speaks_resp3: false, ..facts("") };
    assert_eq!(judged(&old, "protocol"), Level::Note);
    assert_eq!(judged(&facts(""), "round trip"), Level::Ok);
    let slow = Facts { round_trips: vec![Duration::from_millis(20); 3], ..Facts::default() };
    assert_eq!(judged(&slow, "round trip"), Level::Warning);
}

#[test]
fn a_warning_is_what_keeps_a_server_from_being_fine() {
    let examination = |findings: Vec<Finding>| Examination { server: "h:1".into(), findings };
    let fine = examination(vec![Finding::ok("a", "b"), Finding::note("c", "d", "e")]);
    assert!(fine.is_fine());
    let text = fine.to_string();
    assert_eq!(text.lines().next(), Some("h:1"));
    assert!(text.contains("\nok       a                        b\nnote     c  "), "{text}");
    assert!(text.ends_with(" e"), "{text}");
    assert!(!examination(vec![Finding::warning("a", "b", "c")]).is_fine());
    assert_eq!(
        examination(vec![Finding::ok("a", "b")]).to_json(),
        r#"{"server":"h:1","findings":[{"check":"a","level":"ok","found":"b","advice":null}]}"#
    );
}
