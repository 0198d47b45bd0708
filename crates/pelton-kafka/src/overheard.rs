//! What the client library knows and does not tell with an error: why a broker's certificate was not accepted, what was
//! last logged, which requests of a transaction had no answer.

use crate::{
    errors::code,
    native::{Failure, error_code, text},
    reach::Reach,
};
use rdkafka_sys as sys;
use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    time::Instant,
};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Overheard {
    /// What OpenSSL found wrong with the last certificate of a client's brokers; 0: nothing.
    certificate: AtomicI32,
    /// The last failure of a connection that was logged.
    failure: Mutex<String>,
    answered: AtomicBool,
    /// There is no certificate of ours to show.
    shows_nothing: bool,
    /// Requests without an answer are counted.
    counts: bool,
    /// Requests of a transaction that ended without an answer.
    unanswered: AtomicU64,
    /// The broker that last answered as a group's coordinator; none below 0.
    coordinator: AtomicI32,
    /// Its connection has ended since.
    coordinator_left: AtomicBool,
    /// Which brokers are connected.
    reach: Mutex<Reach>,
    /// Why the current transaction failed, as it was logged.
    transaction: Mutex<Option<Failure>>,
}

/// Produce, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit: one of these that is still on its way can
/// reach into a later transaction of the same producer (P7). Apache Kafka's numbers of its requests.
const OF_TRANSACTIONS: [i16; 5] = [0, 24, 25, 26, 28];
/// DescribeGroups and TxnOffsetCommit, which the coordinator of a group answers.
const TO_COORDINATORS: [i16; 2] = [15, 28];
const INTERCEPTOR: &CStr = c"pelton";

impl Overheard {
    /// `shows_certificate`: the client has a certificate of its own. `counts`: requests that end without an answer are
    /// counted. Only the library's interceptors see all of them: of a connection that is cut neither an error nor, the
    /// second time within half a minute, a line in the log tells.
    pub(crate) fn new(shows_certificate: bool, counts: bool) -> Self {
        Self {
            certificate: AtomicI32::new(0),
            failure: Mutex::default(),
            answered: AtomicBool::new(false),
            shows_nothing: !shows_certificate,
            counts,
            unanswered: AtomicU64::new(0),
            coordinator: AtomicI32::new(-1),
            coordinator_left: AtomicBool::new(false),
            reach: Mutex::new(Reach::new(Instant::now())),
            transaction: Mutex::default(),
        }
    }

    /// Have the library come here, and with `certificates` ask [`judge`].
    ///
    /// # Safety
    /// `conf` is live, and `self` outlives the client that is made of it.
    pub(crate) unsafe fn watch(&self, conf: *mut sys::rd_kafka_conf_t, certificates: bool) {
        // SAFETY: the caller's promise; the pointer is only read back by `of` and the functions below.
        unsafe {
            let own = std::ptr::from_ref(self).cast_mut().cast();
            sys::rd_kafka_conf_set_opaque(conf, own);
            sys::rd_kafka_conf_interceptor_add_on_new(conf, INTERCEPTOR.as_ptr(), Some(made), own);
            if certificates {
                sys::rd_kafka_conf_set_ssl_cert_verify_cb(conf, Some(judge));
            }
        }
    }

    /// Requests of a transaction that ended without an answer, since the client was made.
    pub(crate) fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Whether the connection to the group's coordinator has ended since that answered. Only asked of a client that counts.
    pub(crate) fn coordinator_left(&self) -> bool {
        self.coordinator_left.load(Ordering::Acquire)
    }

    fn coordinator_answered(&self, broker: i32) {
        self.coordinator.store(broker, Ordering::Release);
        self.coordinator_left.store(false, Ordering::Release);
    }

    fn connection_ended(&self, broker: i32) {
        if broker >= 0 && broker == self.coordinator.load(Ordering::Acquire) {
            self.coordinator_left.store(true, Ordering::Release);
        }
    }

    /// Which brokers are connected.
    pub(crate) fn reach(&self) -> MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the current transaction failed, once it has.
    pub(crate) fn transaction_failure(&self) -> Option<Failure> {
        self.transaction.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What [`Overheard::watch`] gave to a client.
    ///
    /// # Safety
    /// `client` is live and was made with it, or with no such pointer.
    pub(crate) unsafe fn of<'a>(client: *const sys::rd_kafka_t) -> Option<&'a Overheard> {
        // SAFETY: the caller's promise.
        unsafe { sys::rd_kafka_opaque(client).cast::<Overheard>().as_ref() }
    }

    /// A line of the library's log.
    pub(crate) fn logged(&self, facility: &str, line: &str) {
        if facility == "FAIL" {
            // `[thrd:...]: host:port/bootstrap: why`
            let why = line.split_once("]: ").map_or(line, |(_, why)| why);
            why.clone_into(&mut self.failure.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if facility == "TXNERR" {
            *self.transaction.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed_transaction(line));
        }
    }

    /// A failure with what else is known of it.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        let Failure { code, mut text } = failure;
        let logged = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if code == code::ALL_BROKERS_DOWN && !logged.is_empty() {
            text = format!("{text} [{logged}]");
        }
        drop(logged);
        let reason = self.certificate.load(Ordering::Relaxed);
        if reason != 0 && text.contains("certificate verify failed") {
            text = format!("{text} [{}]", reason_text(reason));
        }
        if self.shows_nothing && text.contains("SSL routines") && text.contains(" alert ") {
            text.push_str(" [we show no certificate]");
        }
        let how = hang_up(&text).filter(|_| !self.answered.load(Ordering::Relaxed));
        if let Some(how) = how {
            text = format!("{text} [{how}]");
        }
        Failure { code, text }
    }

    /// A broker has answered: what hangs up from now on is no listener of another kind.
    pub(crate) fn answered(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }
}

/// What a line about a failed transaction says: the error's name stands in the last brackets that hold one. Pure.
fn failed_transaction(line: &str) -> Failure {
    let why = line.split_once("]: ").map_or(line, |(_, why)| why);
    let why = why.split_once("failed in state ").map_or(why, |(_, rest)| rest);
    let why = why.split_once(": ").map_or(why, |(_, rest)| rest);
    let named = why.rsplit('(').find_map(|part| error_code(part.trim_end_matches([')', '.', ' '])));
    Failure::new(named.unwrap_or(code::STATE), why)
}

unsafe extern "C" fn made(
    client: *mut sys::rd_kafka_t,
    _conf: *const sys::rd_kafka_conf_t,
    own: *mut c_void,
    _why: *mut c_char,
    _why_size: usize,
) -> sys::rd_kafka_resp_err_t {
    // The error comes as a number for which the binding may have no name: a newer broker's.
    type Numbered = unsafe extern "C" fn(
        *mut sys::rd_kafka_t,
        c_int,
        *const c_char,
        i32,
        i16,
        i16,
        i32,
        usize,
        i64,
        i32,
        *mut c_void,
    ) -> sys::rd_kafka_resp_err_t;
    // SAFETY: the two types differ in that argument alone, an enum that is represented by this integer.
    let told = unsafe {
        std::mem::transmute::<Option<Numbered>, sys::rd_kafka_interceptor_f_on_response_received_t>(Some(
            answered_or_not,
        ))
    };
    // SAFETY: a client that is being made; the pointer is that of `watch`.
    unsafe {
        sys::rd_kafka_interceptor_add_on_broker_state_change(
            client,
            INTERCEPTOR.as_ptr(),
            Some(connected_or_not),
            own,
        );
        if (*own.cast::<Overheard>()).counts {
            return sys::rd_kafka_interceptor_add_on_response_received(
                client,
                INTERCEPTOR.as_ptr(),
                told,
                own,
            );
        }
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Comes from the threads of brokers, with locks of the library: nothing of it may be called.
unsafe extern "C" fn connected_or_not(
    _client: *mut sys::rd_kafka_t,
    broker_id: i32,
    _protocol: *const c_char,
    host: *const c_char,
    port: c_int,
    state: *const c_char,
    own: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: texts that live during the call; for the pointer see `watch`.
    let (host, state, overheard) = unsafe { (text(host), text(state), &*own.cast::<Overheard>()) };
    let is_up = state == "UP";
    overheard.reach().changed(&host, port, is_up, Instant::now());
    if !is_up {
        overheard.connection_ended(broker_id);
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

unsafe extern "C" fn answered_or_not(
    _client: *mut sys::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    broker_id: i32,
    request: i16,
    _version: i16,
    _number: i32,
    _size: usize,
    _micros: i64,
    error: i32,
    own: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: see `watch`.
    let overheard = unsafe { &*own.cast::<Overheard>() };
    if error == 0 && TO_COORDINATORS.contains(&request) {
        overheard.coordinator_answered(broker_id);
    }
    // What a broker cannot do is refused here and never sent; such a request has no number of its kind yet, which is 0.
    if error != 0 && error != code::UNSUPPORTED_FEATURE && OF_TRANSACTIONS.contains(&request) {
        overheard.unanswered.fetch_add(1, Ordering::AcqRel);
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// How a broker of Apache Kafka ends a connection that speaks another protocol than its listener. Pure.
fn hang_up(text: &str) -> Option<&'static str> {
    let (_, after) = text.split_once("Disconnected: ")?.1.split_once("(after ")?;
    let (millis, state) = after.split_once("ms in state ")?;
    let soon = millis.parse::<u64>().is_ok_and(|millis| millis < 2_000);
    if state.starts_with("APIVERSION_QUERY") && !text.contains("ssl://") {
        return Some("hangs up on plain text");
    }
    (soon && state.starts_with("UP") && !text.contains("sasl_")).then_some("hangs up without a login")
}

/// Accepts what OpenSSL accepts, and notes why it does not.
unsafe extern "C" fn judge(
    _client: *mut sys::rd_kafka_t,
    _broker: *const c_char,
    _id: i32,
    x509_error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    why: *mut c_char,
    why_size: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the library passes a live number, and the pointer given to it by `watch`.
    let (reason, overheard) = unsafe { (*x509_error, &*opaque.cast::<Overheard>()) };
    if reason == 0 {
        return 1;
    }
    overheard.certificate.store(reason, Ordering::Relaxed);
    let words = reason_text(reason);
    let len = words.len().min(why_size.saturating_sub(1));
    if why_size > 0 {
        // SAFETY: `len + 1` bytes fit into the library's buffer.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr().cast(), why, len);
            *why.add(len) = 0;
        }
    }
    0
}

/// OpenSSL's words, which it also prints elsewhere.
fn reason_text(reason: c_int) -> String {
    unsafe extern "C" {
        fn X509_verify_cert_error_string(reason: std::ffi::c_long) -> *const c_char;
    }
    // SAFETY: a table of OpenSSL's, which the client library brings along; any number has a text.
    unsafe { text(X509_verify_cert_error_string(reason.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_has_left_when_its_own_connection_ended_and_is_back_when_one_answers() {
        let overheard = Overheard::new(true, true);
        overheard.connection_ended(-1);
        assert!(!overheard.coordinator_left(), "there was none");
        overheard.coordinator_answered(1);
        overheard.connection_ended(2);
        assert!(!overheard.coordinator_left(), "that was another broker");
        overheard.connection_ended(1);
        assert!(overheard.coordinator_left());
        overheard.coordinator_answered(2);
        assert!(!overheard.coordinator_left());
    }

    #[test]
    fn the_reason_is_told_only_with_a_refused_certificate() {
        let trust = Overheard { certificate: AtomicI32::new(10), ..Overheard::new(true, false) };
        let refused = Failure::new(-181, "SSL handshake failed: certificate verify failed");
        assert!(trust.explain(refused.clone()).text.ends_with("[certificate has expired]"));
        assert_eq!(Overheard::new(true, false).explain(refused.clone()), refused);
        let other = Failure::new(-195, "Connection refused");
        assert_eq!(trust.explain(other.clone()), other);
    }

    #[test]
    fn what_was_logged_says_why_all_brokers_are_down() {
        let overheard = Overheard::new(false, false);
        let down = Failure::new(code::ALL_BROKERS_DOWN, "1/1 brokers are down");
        assert_eq!(overheard.explain(down.clone()), down);
        overheard.logged("FAIL", "[thrd:k:1/bootstrap]: k:1/bootstrap: Disconnected: requesting ApiVersion");
        overheard.logged("OTHER", "[thrd:k:1/bootstrap]: k:1/bootstrap: something");
        let text = overheard.explain(down).text;
        assert_eq!(text, "1/1 brokers are down [k:1/bootstrap: Disconnected: requesting ApiVersion]");
        let alert = Failure::new(code::SSL, "error:0A000412:SSL routines::ssl/tls alert bad certificate");
        assert!(overheard.explain(alert.clone()).text.ends_with("[we show no certificate]"));
        assert_eq!(Overheard::new(true, false).explain(alert.clone()), alert);
    }

    #[test]
    fn a_broker_that_hangs_up_before_it_ever_answered_speaks_something_else() {
        let plain = "1/1 brokers are down [127.0.0.1:9093/bootstrap: Disconnected: connection closed by peer: receive 0 \
                     after POLLIN (after 18ms in state APIVERSION_QUERY)]";
        let login = "0/1 brokers are down [ssl://127.0.0.1:9094/bootstrap: Disconnected: SSL connection closed by peer \
                     (after 2ms in state UP, 1 identical error(s) suppressed)]";
        assert_eq!(hang_up(plain), Some("hangs up on plain text"));
        assert_eq!(hang_up(login), Some("hangs up without a login"));
        assert_eq!(hang_up(&login.replace("after 2ms", "after 2000ms")), None, "it was used for a while");
        assert_eq!(hang_up(&login.replace("ssl://", "sasl_ssl://")), None);
        let overheard = Overheard::new(false, false);
        let down = Failure::new(code::ALL_BROKERS_DOWN, login);
        assert!(overheard.explain(down.clone()).text.ends_with("[hangs up without a login]"));
        overheard.answered();
        assert_eq!(overheard.explain(down.clone()), down, "it has answered before: it is going away");
    }
}
