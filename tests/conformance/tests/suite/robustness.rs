//! What strangers may send, and how much of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use pelton_conformance::client::COMMITTED;
use pelton_conformance::wire::{frame, refusal, text};
use pelton_conformance::{Target, conform};

conform!(
    a_version_of_api_versions_from_the_future_gets_the_list_in_version_0,
    a_client_without_a_name_for_itself_is_refused_the_list,
    pipelined_requests_are_answered_in_order,
    garbage_closes_its_connection_and_no_other,
    bytes_after_the_fields_of_a_request_are_ignored,
    a_length_of_2_gb_is_refused,
    half_a_request_is_never_answered,
    a_request_in_pieces_is_answered,
    a_version_that_is_not_offered_closes_the_connection,
    ten_thousand_idle_connections_hinder_nobody,
);

fn connect(target: &Target) -> TcpStream {
    let stream = TcpStream::connect(target.bootstrap()).unwrap();
    stream.set_read_timeout(Some(target.patience)).unwrap();
    stream
}

fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "an answer to garbage: {rest:?}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn assert_works(target: &Target) {
    let response = target.wire().call(0, &ApiVersionsRequest::default());
    assert_eq!(refusal(response.error_code), None);
}

fn a_version_of_api_versions_from_the_future_gets_the_list_in_version_0(target: &Target) {
    let mut wire = target.wire();
    // Key 18, version 99, correlation id 7, a client id, then a body nobody here can read.
    wire.stream().write_all(&[0, 0, 0, 13, 0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0, 0]).unwrap();
    let answer = wire.receive_frame();
    assert_eq!(answer[..4], [0, 0, 0, 7]);
    let code = i16::from_be_bytes([answer[4], answer[5]]);
    assert_eq!(refusal(code), Some(ResponseError::UnsupportedVersion));
    let count = u32::from_be_bytes(answer[6..10].try_into().unwrap());
    let mut keys = answer[10..].chunks_exact(6).map(|entry| (entry[1], entry[5]));
    assert!(count > 0 && keys.any(|(key, newest)| key == 18 && newest >= 3), "{answer:?}");
    // The same connection goes on with a version that is there.
    let request = ApiVersionsRequest::default().with_client_software_name(text("conformance"));
    let response = wire.call(3, &request.with_client_software_version(text("1.0")));
    assert_eq!(refusal(response.error_code), None);
}

fn a_client_without_a_name_for_itself_is_refused_the_list(target: &Target) {
    let response = target.wire().call(3, &ApiVersionsRequest::default());
    assert_eq!(refusal(response.error_code), Some(ResponseError::InvalidRequest));
}

fn pipelined_requests_are_answered_in_order(target: &Target) {
    let mut wire = target.wire();
    let mut all = Vec::new();
    for id in 1..=50 {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        all.extend_from_slice(&frame(1, id, &request));
    }
    wire.stream().write_all(&all).unwrap();
    for id in 1..=50_i32 {
        assert_eq!(wire.receive_frame()[..4], id.to_be_bytes());
    }
}

fn garbage_closes_its_connection_and_no_other(target: &Target) {
    let mut good = target.wire();
    good.call(0, &ApiVersionsRequest::default());
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        &[0xff; 1000],
        &[0, 0, 0, 2, 0, 18],
        &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 255, 255],
    ];
    for bytes in garbage {
        let mut stream = connect(target);
        stream.write_all(bytes).unwrap();
        assert_closed(&mut stream);
    }
    good.call(0, &ApiVersionsRequest::default());
}

fn bytes_after_the_fields_of_a_request_are_ignored(target: &Target) {
    // librdkafka 2.12 leaves three behind when it asks for all topics, as a consumer with a pattern does.
    let mut request = frame(1, 7, &MetadataRequest::default().with_topics(Some(Vec::new()))).to_vec();
    request.extend_from_slice(&[0; 3]);
    request[3] += 3;
    let mut wire = target.wire();
    wire.stream().write_all(&request).unwrap();
    assert_eq!(wire.receive_frame()[..4], [0, 0, 0, 7]);
}

fn a_length_of_2_gb_is_refused(target: &Target) {
    let mut stream = connect(target);
    stream.write_all(&i32::MAX.to_be_bytes()).unwrap();
    assert_closed(&mut stream);
    assert_works(target);
}

fn half_a_request_is_never_answered(target: &Target) {
    let request = frame(0, 7, &ApiVersionsRequest::default());
    let mut stream = connect(target);
    stream.write_all(&request[..request.len() - 3]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_closed(&mut stream);
    assert_works(target);
}

fn a_request_in_pieces_is_answered(target: &Target) {
    let mut wire = target.wire();
    for byte in &frame(0, 7, &ApiVersionsRequest::default()) {
        wire.stream().write_all(&[*byte]).unwrap();
    }
    assert_eq!(wire.receive_frame()[..4], [0, 0, 0, 7]);
}

fn a_version_that_is_not_offered_closes_the_connection(target: &Target) {
    let mut stream = connect(target);
    // Metadata in version 99.
    stream.write_all(&[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 255, 255]).unwrap();
    assert_closed(&mut stream);
    assert_works(target);
}

/// How many files this process may have open.
fn open_files_allowed() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024)
}

fn ten_thousand_idle_connections_hinder_nobody(target: &Target) {
    // One at a time: there are not files enough for both.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The embedded broker has the other ends in the same process; other cases need files too.
    let ends = if target.is_embedded() { 2 } else { 1 };
    let count = (open_files_allowed().saturating_sub(3000) / ends).clamp(200, 9_900);
    let mut idle: Vec<TcpStream> = (0..count).map(|_| connect(target)).collect();
    for (at, stream) in idle.iter_mut().enumerate() {
        // A third says nothing, a third begins a request, a third promises much.
        let begun: &[u8] = [&[][..], &[0, 0], &[0, 1, 0, 0]][at % 3];
        stream.write_all(begun).unwrap();
    }
    let topic = target.topic("busy", 1);
    target.send(&target.producer(&[]), &topic, 0, &["through"]);
    assert_eq!(target.values(&topic, 0, COMMITTED), ["through"]);
}
