use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// A pipe without room: each write waits until the test reads it.
struct Pipe(SyncSender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.send(bytes.to_owned()) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A queue with its writer, which reports dropped lines in a line of their own.
fn queue() -> (&'static Queue, Receiver<Vec<u8>>) {
    let queue: &'static Queue = Box::leak(Box::default());
    let (sender, reader) = mpsc::sync_channel(0);
    thread::spawn(move || {
        queue.write_to(Pipe(sender), |dropped| {
            queue.push(format!("{dropped} dropped").as_bytes());
        })
    });
    (queue, reader)
}

fn next(reader: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(reader.recv_timeout(LIMIT).unwrap()).unwrap()
}

/// A line that fills a hundredth of the queue.
fn line(number: usize) -> String {
    format!("{number:0width$}", width = MOST / 100)
}

#[test]
fn lines_come_whole_and_in_order() {
    let (queue, reader) = queue();
    for number in 0..50 {
        queue.push(line(number).as_bytes());
    }
    for number in 0..50 {
        assert_eq!(next(&reader), line(number));
    }
    queue.push(b"last");
    assert_eq!(next(&reader), "last");
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn lines_that_do_not_fit_are_dropped_and_reported_once_at_the_gap() {
    let (queue, reader) = queue();
    for number in 0..250 {
        queue.push(line(number).as_bytes());
    }
    // It would fit, but it comes after dropped lines.
    queue.push(b"short");
    assert_eq!(queue.dropped(), 151);
    for number in 0..100 {
        assert_eq!(next(&reader), line(number));
    }
    assert_eq!(next(&reader), "151 dropped");
    queue.flush(LIMIT);
    queue.push(b"after it");
    assert_eq!(next(&reader), "after it");
    assert_eq!(queue.dropped(), 151);
}

#[test]
fn lines_are_taken_again_once_half_of_the_queue_is_written() {
    let (queue, reader) = queue();
    for number in 0..101 {
        queue.push(line(number).as_bytes());
    }
    for number in 0..60 {
        assert_eq!(next(&reader), line(number));
    }
    let begun = Instant::now();
    while queue.state().unreported > 0 {
        assert!(begun.elapsed() < LIMIT);
        thread::yield_now();
    }
    queue.push(b"after it");
    for number in 60..100 {
        assert_eq!(next(&reader), line(number));
    }
    let mut rest = [next(&reader), next(&reader)];
    rest.sort();
    assert_eq!(rest, ["1 dropped", "after it"]);
}

#[test]
fn a_line_larger_than_the_queue_fits_into_an_empty_one() {
    let (queue, reader) = queue();
    let large = "x".repeat(MOST + 1);
    queue.push(large.as_bytes());
    queue.push(b"next");
    assert_eq!(next(&reader), large);
    assert_eq!(next(&reader), "1 dropped");
}

#[test]
fn a_flush_waits_for_the_last_line_and_not_for_a_writer_that_is_stuck() {
    let (queue, reader) = queue();
    queue.push(b"stuck");
    let begun = Instant::now();
    queue.flush(Duration::from_millis(100));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(begun.elapsed() < LIMIT);

    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        reader.iter().next()
    });
    queue.flush(LIMIT);
    assert!(queue.state().lines.is_empty());
    assert_eq!(reading.join().unwrap().unwrap(), b"stuck");
}

#[test]
fn lines_that_cannot_be_written_are_lost_and_hold_up_nothing() {
    let (queue, reader) = queue();
    drop(reader);
    for number in 0..250 {
        queue.push(line(number).as_bytes());
        queue.flush(LIMIT);
    }
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn a_full_pipe_that_does_not_block_is_tried_again() {
    struct Full(usize, Vec<u8>);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(ErrorKind::WouldBlock.into()),
                2 => Err(ErrorKind::Interrupted.into()),
                _ => self.1.write(&bytes[..1]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut full = Full(0, Vec::new());
    write(&mut full, b"line\n").unwrap();
    assert_eq!(full.1, b"line\n");
}
