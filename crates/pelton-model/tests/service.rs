//! The service with models that misbehave, and with the real one.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_model::{
    Answer, Client, Dim, ElementType, Limits, Model, ModelError, Port, Rows, Service, Signature, TensorInfo,
};
use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

/// Doubles the one number of each row. Panics on 13, fails on 7, and tells when it is dropped.
struct Doubler {
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    _dropped: Sender<()>,
}

fn doubler() -> (Box<dyn Model>, Receiver<()>) {
    let info = |name: &str| TensorInfo {
        name: name.into(),
        element: Some(ElementType::F32),
        dims: Some(vec![Dim::Symbolic("batch".into()), Dim::Fixed(1)]),
    };
    let (dropped, when) = mpsc::channel();
    (Box::new(Doubler { inputs: vec![info("x")], outputs: vec![info("y")], _dropped: dropped }), when)
}

impl Model for Doubler {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }
    fn run(&mut self, _: &Signature, rows: &Rows) -> Result<Rows, ModelError> {
        assert!(!rows.values().contains(&13.0), "thirteen");
        if rows.values().contains(&7.0) {
            return Err(ModelError::Run { why: "seven".into() });
        }
        Ok(Rows::from_values(1, rows.values().iter().map(|x| x * 2.0).collect()))
    }
}

fn start(max_batch: usize, max_delay: Duration) -> (Service, Receiver<()>) {
    let (model, dropped) = doubler();
    let input = Port::input(&*model, None, None).unwrap();
    let output = Port::output(&*model, Some("y"), None).unwrap();
    let signature = Signature::new(&*model, vec![input], vec![output]).unwrap();
    let limits = Limits { max_batch, max_delay, calibrate: false };
    (Service::start("test", model, signature, limits).unwrap(), dropped)
}

const FOREVER: Duration = Duration::from_secs(3600);

fn client(service: &Service) -> Client {
    let me = thread::current();
    service.client(1000, move || me.unpark())
}

fn wait(client: &mut Client) -> Answer {
    loop {
        match client.answer() {
            Some(answer) => return answer,
            None => thread::park(),
        }
    }
}

fn rows(values: &[f32]) -> Rows {
    Rows::from_values(1, values.to_vec())
}

#[test]
fn rows_of_two_clients_share_a_batch() {
    let (service, _) = start(4, FOREVER);
    let (mut a, mut b) = (client(&service), client(&service));
    a.submit(1, rows(&[1.0, 2.0])).unwrap();
    b.submit(9, rows(&[3.0, 4.0])).unwrap();
    assert_eq!(wait(&mut a), Answer { job: 1, rows: rows(&[2.0, 4.0]), failed: vec![] });
    assert_eq!(wait(&mut b), Answer { job: 9, rows: rows(&[6.0, 8.0]), failed: vec![] });
    assert_eq!((service.stats().batches, service.stats().rows), (1, 4));
}

#[test]
fn an_incomplete_batch_runs_after_the_delay_or_at_once_in_a_hurry() {
    let (service, _) = start(4, Duration::from_millis(1));
    let mut a = client(&service);
    a.submit(1, rows(&[1.0])).unwrap();
    assert_eq!(wait(&mut a).rows, rows(&[2.0]));

    let (service, _) = start(4, FOREVER);
    let mut a = client(&service);
    a.submit(1, rows(&[1.0])).unwrap();
    a.hurry();
    assert_eq!(wait(&mut a).rows, rows(&[2.0]));
}

#[test]
fn a_panic_or_an_error_costs_the_guilty_rows_only() {
    let (service, _) = start(8, FOREVER);
    let (mut a, mut b) = (client(&service), client(&service));
    a.submit(1, rows(&[1.0, 13.0, 3.0])).unwrap();
    b.submit(2, rows(&[4.0, 5.0, 6.0, 7.0, 8.0])).unwrap();
    let (a1, b1) = (wait(&mut a), wait(&mut b));
    assert_eq!(a1.rows, rows(&[2.0, 0.0, 6.0]));
    assert_eq!(a1.failed, [(1, "the model failed: it panicked: thirteen".to_owned())]);
    assert_eq!(b1.rows, rows(&[8.0, 10.0, 12.0, 0.0, 16.0]));
    assert_eq!(b1.failed, [(3, "the model failed: seven".to_owned())]);
    assert_eq!(service.stats().failed, 2);
    // And it goes on.
    a.submit(3, rows(&[10.0])).unwrap();
    a.hurry();
    assert_eq!(wait(&mut a).rows, rows(&[20.0]));
}

#[test]
fn a_client_gets_back_what_it_has_no_room_for() {
    let (service, _) = start(100, FOREVER);
    let mut a = service.client(3, || ());
    a.submit(1, rows(&[1.0, 2.0])).unwrap();
    assert_eq!(a.submit(2, rows(&[3.0, 4.0])), Err(rows(&[3.0, 4.0])));
    assert_eq!((a.room(), a.in_flight()), (1, 2));
}

#[test]
fn answers_come_in_the_order_of_the_jobs_however_they_were_cut() {
    let (service, _) = start(3, Duration::ZERO);
    let mut a = client(&service);
    for job in 0..20 {
        let n = job as usize % 5;
        a.submit(job, rows(&vec![100.0 + job as f32; n])).unwrap();
    }
    for job in 0..20 {
        let answer = wait(&mut a);
        assert_eq!(answer.job, job);
        assert_eq!(answer.rows, rows(&vec![200.0 + 2.0 * job as f32; job as usize % 5]));
    }
}

#[test]
fn the_thread_ends_with_its_last_handle_and_answers_what_it_had() {
    let (service, dropped) = start(100, FOREVER);
    let (mut a, b) = (client(&service), client(&service));
    a.submit(1, rows(&[1.0])).unwrap();
    drop(service);
    drop(b);
    a.hurry();
    assert_eq!(wait(&mut a).rows, rows(&[2.0]));
    drop(a);
    // The model's own sender is dropped with the thread: the channel closes without a message.
    assert_eq!(dropped.recv(), Err(mpsc::RecvError));
}
