//! What a fleet costs: etcd's own numbers, and the processor time of etcd and of the proxy in front of it.

use std::fs;

use serde_json::Value;

use crate::common::{Etcd, GrpcProxy, get};
use crate::table::{milliseconds, processor_time};

/// The names of the numbers that are needed one by one.
pub const RENEWALS: &str = "renewals";
pub const RANGES: &str = "Range calls";
pub const BYTES: &str = "bytes from etcd";
pub const PROCESSOR: &str = "ms of etcd's processor";

/// All numbers that are counted: the name, and the source.
pub const COUNTED: [(&str, Source); 9] = [
    (
        RENEWALS,
        Source::Metric("etcd_debugging_lease_renewed_total"),
    ),
    (
        "transactions",
        Source::Metric("grpc_server_msg_received_total{grpc_method=\"Txn\""),
    ),
    (
        "questions for a lease",
        Source::Metric("grpc_server_msg_received_total{grpc_method=\"LeaseTimeToLive\""),
    ),
    (
        RANGES,
        Source::Metric("grpc_server_msg_received_total{grpc_method=\"Range\""),
    ),
    ("writes", Source::Metric("etcd_mvcc_put_total")),
    (
        "bytes to etcd",
        Source::Metric("etcd_network_client_grpc_received_bytes_total"),
    ),
    (
        BYTES,
        Source::Metric("etcd_network_client_grpc_sent_bytes_total"),
    ),
    (PROCESSOR, Source::Etcd),
    ("ms of the proxy's processor", Source::Proxy),
];

/// The numbers, in the order of [`COUNTED`].
pub type Counts = [f64; COUNTED.len()];

/// The source of a number.
#[derive(Clone, Copy)]
pub enum Source {
    /// etcd's metrics: the beginning of the line.
    Metric(&'static str),
    /// The processor time of etcd.
    Etcd,
    /// The processor time of its gRPC proxy; zero without one.
    Proxy,
}

/// The numbers since the start of etcd and of the proxy.
pub fn counted(etcd: &Etcd, proxy: Option<&GrpcProxy>) -> Counts {
    let page = get(&etcd.endpoint(), "/metrics").body;
    COUNTED.map(|(_, source)| match source {
        Source::Metric(line) => metric(&page, line),
        Source::Etcd => milliseconds(processor_time(etcd.pid())),
        Source::Proxy => proxy.map_or(0.0, |proxy| milliseconds(processor_time(proxy.pid()))),
    })
}

/// The number of watches that etcd serves now.
pub fn watchers(etcd: &Etcd) -> f64 {
    let page = get(&etcd.endpoint(), "/metrics").body;
    metric(&page, "etcd_debugging_mvcc_watcher_total")
}

fn metric(page: &str, line: &str) -> f64 {
    let line = page.lines().find(|text| text.starts_with(line));
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number.expect("a number that etcd has counted")
}

/// One of the numbers.
pub fn of(counts: &Counts, name: &str) -> f64 {
    let place = COUNTED.iter().position(|(counted, _)| *counted == name);
    counts[place.expect("it is counted")]
}

/// The difference of two counts.
pub fn difference(before: &Counts, after: &Counts) -> Counts {
    std::array::from_fn(|place| after[place] - before[place])
}

/// The numbers with their names.
pub fn named(counts: &Counts) -> Value {
    let names = COUNTED.iter().map(|(name, _)| *name);
    names.zip(counts.iter().copied()).collect()
}

/// The most resident memory that a process has had, in MiB.
pub fn peak(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim_end_matches(" kB").trim().parse::<f64>().ok());
    number.expect("a number of KiB") / 1024.0
}

/// A number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
pub fn float(number: usize) -> f64 {
    number as f64
}
