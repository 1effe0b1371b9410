//! A service behind an active check.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{SOON, UNPOISONED};

/// A service that answers as it is told. It ends when it goes out of scope.
pub struct Service {
    pub address: String,
    answer: Arc<Mutex<Answer>>,
    ends: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A text; the connection closes after it.
    Text(&'static str),
    /// A text, after which the connection stays open.
    Hangs(&'static str),
    /// A text, and then more of the other one without an end.
    Endless(&'static str, &'static str),
    /// The listener does not exist.
    Refuses,
}

impl Answer {
    pub const GOOD: Self = Self::Text("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
}

impl Service {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener can be asked without waiting");
        let service = Self {
            address: listener.local_addr().expect("an address").to_string(),
            answer: Arc::new(Mutex::new(Answer::GOOD)),
            ends: Arc::default(),
        };
        let (address, answer) = (service.address.clone(), Arc::clone(&service.answer));
        let ends = Arc::clone(&service.ends);
        thread::spawn(move || {
            let mut listener = Some(listener);
            while !ends.load(Ordering::SeqCst) {
                let now = *answer.lock().expect(UNPOISONED);
                if now == Answer::Refuses {
                    listener = None;
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let Some(listener) = &listener else {
                    listener = TcpListener::bind(&address).ok();
                    if let Some(listener) = &listener {
                        let _ = listener.set_nonblocking(true);
                    }
                    continue;
                };
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                thread::spawn(move || serve(stream, now));
            }
        });
        service
    }

    /// Answers so from the next connection on.
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().expect(UNPOISONED) = answer;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}

fn serve(mut stream: TcpStream, answer: Answer) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(SOON));
    let mut request = [0; 1024];
    let _ = stream.read(&mut request);
    match answer {
        Answer::Text(text) => drop(stream.write_all(text.as_bytes())),
        Answer::Hangs(text) => {
            let _ = stream.write_all(text.as_bytes());
            // Until the other side gives up.
            let _ = stream.read(&mut request);
        }
        Answer::Endless(head, more) => {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(more.as_bytes()).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Answer::Refuses => {}
    }
}
