//! A server on this machine that keeps some questions waiting.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
};

#[derive(Default)]
struct State {
    kept: BTreeSet<u64>,
    asked: BTreeSet<u64>,
}

/// Answers `GET /ID`. Its threads end with the test's process.
pub struct Server {
    shared: Arc<(Mutex<State>, Condvar)>,
    pub url: String,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || serve(&connection, &shared));
            }
        });
        Server { shared, url }
    }

    /// Do not answer for this id until told.
    pub fn keep(&self, id: u64) {
        self.shared.0.lock().unwrap().kept.insert(id);
    }

    pub fn answer_all(&self) {
        self.shared.0.lock().unwrap().kept.clear();
        self.shared.1.notify_all();
    }

    pub fn was_asked(&self, id: u64) -> bool {
        self.shared.0.lock().unwrap().asked.contains(&id)
    }
}

fn serve(connection: &TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut lines = BufReader::new(connection).lines();
    loop {
        let Some(Ok(request)) = lines.next() else { return };
        let id = request.split_whitespace().nth(1).and_then(|path| path.trim_matches('/').parse().ok());
        while let Some(Ok(line)) = lines.next()
            && !line.is_empty()
        {}
        let mut state = state.lock().unwrap();
        state.asked.extend(id);
        drop(changed.wait_while(state, |state| id.is_some_and(|id| state.kept.contains(&id))));
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\ntrue";
        if (&mut &*connection).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
