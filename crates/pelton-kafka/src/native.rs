//! Safe owners of librdkafka's objects. All raw calls that need a lifetime argument are argued here.
//!
//! Why not rust-rdkafka's clients: they copy one message at a time, flush in steps of 100 ms, panic on offset metadata
//! that is not UTF-8, and offer no wake-up for a partition's queue. The library itself still comes from that crate.

use crate::{link::Link, overheard::Overheard};
use pelton_sdk::{EndError, Revealed, Wake};
use pelton_types::Code;
use rdkafka_sys as sys;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A librdkafka or broker error code. Kept as a number: a newer broker may send codes the binding has no name for.
pub(crate) type ErrorCode = i32;

/// Room for the library's error texts.
const ERROR_TEXT: usize = 512;

/// What librdkafka or a broker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub code: ErrorCode,
    pub text: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// With the library's own words for the code.
    pub(crate) fn of(code: ErrorCode) -> Self {
        Self { code, text: error_text(code) }
    }
}

/// The library's words for a code.
pub(crate) fn error_text(code: ErrorCode) -> String {
    // `rd_kafka_err2str` takes an enum; the table behind it can be read without making one of an unknown number.
    let known = descriptions().find(|(number, entry)| *number == code && !entry.desc.is_null());
    // SAFETY: a static string of the library's.
    known.map_or_else(|| format!("error {code}"), |(_, entry)| unsafe { text(entry.desc) })
}

/// The code of a name such as `FENCED_INSTANCE_ID`.
pub(crate) fn error_code(name: &str) -> Option<ErrorCode> {
    // SAFETY: static strings of the library's.
    descriptions().find(|(_, entry)| unsafe { text(entry.name) } == name).map(|(number, _)| number)
}

/// What the table of the library's errors says beside a code.
struct Description {
    name: *const c_char,
    desc: *const c_char,
}

fn descriptions() -> impl Iterator<Item = (ErrorCode, Description)> {
    let mut table: *const sys::rd_kafka_err_desc = ptr::null();
    let mut len = 0usize;
    // SAFETY: the call only stores a pointer to a static table and its length.
    unsafe { sys::rd_kafka_get_err_descs(&mut table, &mut len) };
    (0..len).map(move |i| {
        // SAFETY: `i < len`; the code field is read as the integer it is represented by.
        unsafe {
            let entry = table.add(i);
            let number = ptr::addr_of!((*entry).code).cast::<i32>().read();
            (number, Description { name: (*entry).name, desc: (*entry).desc })
        }
    })
}

/// A C string the library owns, copied.
///
/// # Safety
/// `s` is null or a NUL-terminated string that lives during the call.
pub(crate) unsafe fn text(s: *const c_char) -> String {
    if s.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

/// A C string. Names were checked to hold no NUL; one that does anyway is cut there, and then simply not found.
pub(crate) fn c_text(s: &str) -> CString {
    let clean = s.split('\0').next().unwrap_or_default();
    CString::new(clean).unwrap_or_default()
}

/// Consumer or producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    Consumer,
    /// Says on its queue which records were not stored.
    Producer,
    /// Says with a commit whether all were stored, and keeps count of requests without an answer.
    Transactional,
}

/// An instance of the library: its threads and connections.
#[derive(Debug)]
pub(crate) struct Client {
    raw: *mut sys::rd_kafka_t,
    closes_here: AtomicBool,
    overheard: Arc<Overheard>,
    /// Keeps the login fresh as long as there is a client.
    _link: Arc<Link>,
}

// SAFETY: librdkafka's handles may be used from any number of threads at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Start a client. Reads the connection's secrets, starts threads, opens connections in the background, waits for
    /// no broker.
    pub(crate) fn new(
        kind: ClientKind,
        properties: &[(String, String)],
        link: &Arc<Link>,
    ) -> Result<Arc<Client>, EndError> {
        let failed = |code, why: String| EndError::stop(code, format!("{}: {why}", link.label));
        let secrets = link.secrets().map_err(|why| failed(Code::LoginFailed, why))?;
        link.check_files().map_err(|why| failed(Code::TlsFailed, why))?;
        let counts = kind == ClientKind::Transactional;
        let overheard = Arc::new(Overheard::new(link.shows_certificate(), counts));
        let conf =
            Conf::new(kind, properties, &secrets, link).map_err(|why| failed(Code::BadConnection, why))?;
        // SAFETY: the client keeps `overheard` until it is closed.
        unsafe {
            overheard.watch(conf.0, link.checks_certificates());
        }
        let raw = conf.start(kind).map_err(|why| {
            let code = if why.contains("ssl.") { Code::TlsFailed } else { Code::BadConnection };
            failed(code, format!("the Kafka client does not start: {why}"))
        })?;
        if kind == ClientKind::Consumer {
            // Errors then arrive on the consumer's queue.
            // SAFETY: a live client of this kind.
            unsafe { sys::rd_kafka_poll_set_consumer(raw) };
        }
        let client =
            Arc::new(Client { raw, closes_here: AtomicBool::new(false), overheard, _link: link.clone() });
        link.login.keep(&client);
        link.watch.keep(&client, &client.overheard);
        Ok(client)
    }

    /// A broker has answered.
    pub(crate) fn answered(&self) {
        self.overheard.answered();
    }

    /// A failure of this client's, with what is known beyond the library's words.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        self.overheard.explain(failure)
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_t {
        self.raw
    }

    /// Connect to the configured brokers anew if the client has lost them. To be called now and then only: the library keeps
    /// the addresses of each call.
    pub(crate) fn look_for_brokers(&self) {
        let mut text = vec![0_u8; 4096];
        let mut length = text.len();
        // SAFETY: a live client, whose configuration lives as long; the library writes at most `length` bytes, with a zero
        // at the end, and copies what it is given.
        unsafe {
            let conf = sys::rd_kafka_conf(self.raw);
            let name = c"bootstrap.servers".as_ptr();
            let found = sys::rd_kafka_conf_get(conf, name, text.as_mut_ptr().cast(), &raw mut length);
            if found == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK && length <= text.len() {
                sys::rd_kafka_brokers_add(self.raw, text.as_ptr().cast());
            }
        }
    }

    /// Close it on the thread that drops it last: it is gone when that drop returns.
    pub(crate) fn closes_where_dropped(&self) {
        self.closes_here.store(true, Ordering::Relaxed);
    }

    /// Requests of a transaction that ended without an answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.overheard.unanswered()
    }

    /// Whether the connection to the group's coordinator has ended since that answered.
    pub(crate) fn coordinator_left(&self) -> bool {
        self.overheard.coordinator_left()
    }

    /// Why the current transaction can only be aborted.
    pub(crate) fn transaction_failure(&self) -> Option<Failure> {
        self.overheard.transaction_failure()
    }

    /// The error after which this client can do nothing more.
    pub(crate) fn fatal_error(&self) -> Option<Failure> {
        let mut why = [0 as c_char; ERROR_TEXT];
        // SAFETY: the buffer has the length given; the code is turned into a number at once.
        unsafe {
            let code = sys::rd_kafka_fatal_error(self.raw, why.as_mut_ptr(), ERROR_TEXT) as i32;
            (code != 0).then(|| Failure::new(code, text(why.as_ptr())))
        }
    }
}

/// A client's configuration until a client is made of it.
struct Conf(*mut sys::rd_kafka_conf_t);

impl Conf {
    fn new(
        kind: ClientKind,
        properties: &[(String, String)],
        secrets: &[(&'static str, Revealed)],
        link: &Link,
    ) -> Result<Conf, String> {
        // SAFETY: a new configuration, owned here.
        let conf = Conf(unsafe { sys::rd_kafka_conf_new() });
        for (name, value) in properties {
            conf.set(name, value).map_err(|why| format!("client property {name}={value}: {why}"))?;
        }
        for (name, value) in secrets {
            // What the library says could quote the value.
            conf.set(name, value.expose()).map_err(|_| format!("the client refuses the value of {name}"))?;
        }
        let mut events = sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_OFFSET_COMMIT;
        if kind == ClientKind::Producer {
            events |= sys::RD_KAFKA_EVENT_DR;
        }
        if link.login.is_by_token() {
            // Somebody has to want them; the login's thread is ahead of them.
            events |= sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
        }
        // SAFETY: live.
        unsafe {
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(log));
            sys::rd_kafka_conf_set_events(conf.0, events);
        }
        Ok(conf)
    }

    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let mut why = [0 as c_char; ERROR_TEXT];
        let (name, value) = (c_text(name), c_text(value));
        // SAFETY: live; the texts are copied; the buffer has the length given and is terminated by the library.
        unsafe {
            let set =
                sys::rd_kafka_conf_set(self.0, name.as_ptr(), value.as_ptr(), why.as_mut_ptr(), ERROR_TEXT);
            if set == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK { Ok(()) } else { Err(text(why.as_ptr())) }
        }
    }

    fn start(mut self, kind: ClientKind) -> Result<*mut sys::rd_kafka_t, String> {
        let native = match kind {
            ClientKind::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            ClientKind::Producer | ClientKind::Transactional => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        let mut why = [0 as c_char; ERROR_TEXT];
        // SAFETY: the configuration is taken over on success, and only then.
        unsafe {
            let raw = sys::rd_kafka_new(native, self.0, why.as_mut_ptr(), ERROR_TEXT);
            if raw.is_null() {
                return Err(text(why.as_ptr()));
            }
            self.0 = ptr::null_mut();
            Ok(raw)
        }
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: still owned.
            unsafe { sys::rd_kafka_conf_destroy(self.0) };
        }
    }
}

/// The client's raw handle on its way to the thread that closes it, and what the library may still look at.
struct Closing(*mut sys::rd_kafka_t, Arc<Overheard>);
// SAFETY: see `Client`.
unsafe impl Send for Closing {}
impl Closing {
    fn close(self) {
        // SAFETY: the last owner is gone, and queues and topics hold an `Arc<Client>` each, so nothing refers to it.
        // A consumer that only assigned partitions has no group to leave.
        unsafe { sys::rd_kafka_destroy_flags(self.0, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
        drop(self.1);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Closing joins the client's threads, which takes milliseconds: not on an executor.
        let raw = self.raw;
        let closing = Closing(raw, self.overheard.clone());
        if self.closes_here.load(Ordering::Relaxed) {
            return closing.close();
        }
        let started =
            std::thread::Builder::new().name("kafka-close".into()).spawn(move || closing.close()).is_ok();
        if !started {
            Closing(raw, self.overheard.clone()).close();
        }
    }
}

/// librdkafka's log lines become ours. Levels are syslog's; a lost connection is no error of Pelton's.
unsafe extern "C" fn log(
    rk: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: the library passes its own live handle and strings.
    let (name, facility, line) = unsafe { (text(sys::rd_kafka_name(rk)), text(facility), text(line)) };
    // SAFETY: every client here is made with one, which lives until the client is closed.
    if let Some(overheard) = unsafe { Overheard::of(rk) } {
        overheard.logged(&facility, &line);
    }
    match level {
        0..=2 => tracing::error!(target: "librdkafka", client = name, facility, "{line}"),
        3..=4 => tracing::warn!(target: "librdkafka", client = name, facility, "{line}"),
        5..=6 => tracing::debug!(target: "librdkafka", client = name, facility, "{line}"),
        _ => tracing::trace!(target: "librdkafka", client = name, facility, "{line}"),
    }
}

/// Set by the library when a queue that was empty holds something.
#[derive(Debug)]
pub(crate) struct Signal {
    ready: AtomicBool,
    wake: Wake,
}

impl Signal {
    /// Whether something came since the last call. Clears the mark, so look into the queue afterwards, not before.
    pub(crate) fn take(&self) -> bool {
        // A plain load first: most looks find nothing, and they are many.
        self.ready.load(Ordering::Acquire) && self.ready.swap(false, Ordering::AcqRel)
    }

    /// Something is left in the queue.
    pub(crate) fn set(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Something came from elsewhere that is looked for together with the queue.
    pub(crate) fn raise(&self) {
        self.set();
        self.wake.wake();
    }
}

unsafe extern "C" fn signalled(_: *mut sys::rd_kafka_t, signal: *mut c_void) {
    // SAFETY: the pointer is that of an `Arc<Signal>` which the queue keeps until it has switched the event off.
    let signal = unsafe { &*signal.cast::<Signal>() };
    signal.raise();
}

/// A queue of the library's, with a wake-up when something arrives.
#[derive(Debug)]
pub(crate) struct Queue {
    raw: *mut sys::rd_kafka_queue_t,
    signal: Arc<Signal>,
    // Last: the client outlives the queue.
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues are guarded by their own locks.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// # Safety
    /// `raw` is a live queue handle of `client` that the caller owns.
    unsafe fn own(raw: *mut sys::rd_kafka_queue_t, client: &Arc<Client>, wake: &Wake) -> Queue {
        // Ready from the start: what came before the event was switched on is seen by the first look.
        let signal = Arc::new(Signal { ready: AtomicBool::new(true), wake: wake.clone() });
        // SAFETY: the pointer stays valid until `drop` has switched the event off.
        unsafe {
            let pointer = Arc::as_ptr(&signal).cast_mut().cast();
            sys::rd_kafka_queue_cb_event_enable(raw, Some(signalled), pointer);
        }
        Queue { raw, signal, client: client.clone() }
    }

    /// A queue for replies.
    pub(crate) fn new(client: &Arc<Client>, wake: &Wake) -> Queue {
        // SAFETY: a new handle, owned here.
        unsafe { Queue::own(sys::rd_kafka_queue_new(client.raw), client, wake) }
    }

    /// Where the client puts errors (and a producer its delivery reports).
    pub(crate) fn main(client: &Arc<Client>, kind: ClientKind, wake: &Wake) -> Queue {
        // SAFETY: a new reference to the client's own queue; a consumer with a group always has one.
        unsafe {
            let raw = match kind {
                ClientKind::Consumer => sys::rd_kafka_queue_get_consumer(client.raw),
                ClientKind::Producer | ClientKind::Transactional => sys::rd_kafka_queue_get_main(client.raw),
            };
            Queue::own(raw, client, wake)
        }
    }

    /// Records of one partition, taken out of the consumer's common queue.
    pub(crate) fn of_partition(client: &Arc<Client>, topic: &str, index: i32, wake: &Wake) -> Option<Queue> {
        let topic = c_text(topic);
        // SAFETY: the handle is checked and owned; forwarding to nothing only sets a flag in the queue.
        unsafe {
            let raw = sys::rd_kafka_queue_get_partition(client.raw, topic.as_ptr(), index);
            if raw.is_null() {
                return None;
            }
            sys::rd_kafka_queue_forward(raw, ptr::null_mut());
            Some(Queue::own(raw, client, wake))
        }
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_queue_t {
        self.raw
    }

    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// The next event, waiting at most `timeout_ms`.
    pub(crate) fn next_event(&self, timeout_ms: i32) -> Option<Event> {
        // SAFETY: the queue is live; the event is owned by the caller from here on.
        let raw = unsafe { sys::rd_kafka_queue_poll(self.raw, timeout_ms) };
        (!raw.is_null()).then_some(Event { raw })
    }

    /// Up to `want` messages into `into`, without waiting.
    pub(crate) fn take_messages(&self, want: usize, into: &mut Vec<Message>) -> usize {
        into.reserve(want);
        // SAFETY: there is room for `want` pointers behind the vector's length, `Message` is exactly such a pointer,
        // and the library fills as many as it returns.
        unsafe {
            let free = into.as_mut_ptr().add(into.len()).cast::<*mut sys::rd_kafka_message_t>();
            let got = sys::rd_kafka_consume_batch_queue(self.raw, 0, free, want);
            let got = usize::try_from(got).unwrap_or(0);
            into.set_len(into.len() + got);
            got
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: switching the event off takes the lock under which events fire, so none is running afterwards.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.raw, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.raw);
        }
        let _ = &self.client;
    }
}

/// One thing a queue held.
#[derive(Debug)]
pub(crate) struct Event {
    raw: *mut sys::rd_kafka_event_t,
}

impl Event {
    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_event_t {
        self.raw
    }

    /// One of `RD_KAFKA_EVENT_*`.
    pub(crate) fn kind(&self) -> i32 {
        // SAFETY: the event is live.
        unsafe { sys::rd_kafka_event_type(self.raw) }
    }

    /// The number its request was sent with.
    pub(crate) fn request(&self) -> u64 {
        // SAFETY: the event is live; the pointer is a number in disguise, never followed.
        unsafe { sys::rd_kafka_event_opaque(self.raw) as usize as u64 }
    }

    /// Why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        // SAFETY: the event is live; the code is turned into a number at once.
        unsafe {
            let code = sys::rd_kafka_event_error(self.raw) as i32;
            (code != 0).then(|| Failure::new(code, text(sys::rd_kafka_event_error_string(self.raw))))
        }
    }

    /// The client can do nothing more.
    pub(crate) fn is_fatal(&self) -> bool {
        // SAFETY: the event is live.
        unsafe { sys::rd_kafka_event_error_is_fatal(self.raw) != 0 }
    }

    /// What each undelivered message of a delivery report was sent with, and why it was not delivered.
    pub(crate) fn undelivered(&self) -> Vec<(u64, Failure)> {
        let mut all = Vec::new();
        loop {
            // SAFETY: the event is live and owns the messages it shows.
            let message = unsafe { sys::rd_kafka_event_message_next(self.raw) };
            if message.is_null() {
                return all;
            }
            // SAFETY: a live message; the code is read as the integer it is represented by.
            let (code, sender) = unsafe {
                (ptr::addr_of!((*message).err).cast::<i32>().read(), (*message)._private as usize as u64)
            };
            if code != 0 {
                all.push((sender, Failure::of(code)));
            }
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned since `next_event`.
        unsafe { sys::rd_kafka_event_destroy(self.raw) }
    }
}

/// A consumed message, or an error of its partition.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Message {
    raw: ptr::NonNull<sys::rd_kafka_message_t>,
}

// SAFETY: a consumed message belongs to whoever holds it; its reference counts are atomic.
unsafe impl Send for Message {}

impl Message {
    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: live until dropped; nobody writes to it.
        unsafe { self.raw.as_ref() }
    }

    pub(crate) fn offset(&self) -> i64 {
        self.get().offset
    }

    /// The error it stands for instead of a record.
    pub(crate) fn failure(&self) -> Option<Failure> {
        // SAFETY: the code is read as the integer it is represented by.
        let code = unsafe { ptr::addr_of!((*self.raw.as_ptr()).err).cast::<i32>().read() };
        if code == 0 {
            return None;
        }
        let said = self.value().map(|v| String::from_utf8_lossy(v).into_owned());
        Some(Failure::new(code, said.unwrap_or_else(|| error_text(code))))
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        let m = self.get();
        // SAFETY: the library keeps the bytes as long as the message.
        unsafe { bytes(m.key, m.key_len) }
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        let m = self.get();
        // SAFETY: the library keeps the bytes as long as the message.
        unsafe { bytes(m.payload, m.len) }
    }

    #[cfg(feature = "bench")]
    pub(crate) fn partition(&self) -> i32 {
        self.get().partition
    }

    pub(crate) fn size(&self) -> usize {
        self.get().len + self.get().key_len
    }

    /// Milliseconds since 1970; -1 when there is none.
    pub(crate) fn timestamp_ms(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a live message.
        unsafe { sys::rd_kafka_message_timestamp(self.raw.as_ptr(), &mut kind) }
    }

    /// Headers in order; empty when there are none.
    pub(crate) fn headers(&self) -> Headers<'_> {
        let mut raw = ptr::null_mut();
        // SAFETY: a live message; the headers stay its own.
        let found = unsafe { sys::rd_kafka_message_headers(self.raw.as_ptr(), &mut raw) as i32 };
        Headers { raw: if found == 0 { raw } else { ptr::null_mut() }, next: 0, message: self }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: owned since it was taken from its queue.
        unsafe { sys::rd_kafka_message_destroy(self.raw.as_ptr()) }
    }
}

/// # Safety
/// `data` is null or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// A message's headers.
pub(crate) struct Headers<'a> {
    raw: *mut sys::rd_kafka_headers_t,
    next: usize,
    message: &'a Message,
}

impl Headers<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        let _ = self.message;
        self.raw.is_null()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (std::borrow::Cow<'a, str>, Option<&'a [u8]>);
    fn next(&mut self) -> Option<Self::Item> {
        if self.raw.is_null() {
            return None;
        }
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0usize);
        // SAFETY: the headers live as long as the message; name and value are theirs.
        unsafe {
            let found =
                sys::rd_kafka_header_get_all(self.raw, self.next, &mut name, &mut value, &mut len) as i32;
            if found != 0 {
                return None;
            }
            self.next += 1;
            Some((CStr::from_ptr(name).to_string_lossy(), bytes(value, len)))
        }
    }
}
