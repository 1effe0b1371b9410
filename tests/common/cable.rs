//! A cable between two network namespaces: a veth pair.

use super::as_root;

/// Joins a process's network namespace with this one, and returns the address at its end. The cable vanishes with that
/// namespace.
///
/// # Panics
///
/// If it cannot be made.
pub fn lay_cable(pid: &str) -> String {
    // The pid makes the network's name and number different from those of other tests.
    let number = pid.parse::<u32>().expect("a number") % (1 << 14);
    let net = format!("10.{}.{}", 192 + number / 256, number % 256);
    let cable = format!("dr{pid}");
    let run = |program: &str, args: &str| {
        let status = as_root(program).args(args.split(' ')).status();
        let status = status.expect("`ip` and `nsenter` can be run");
        assert!(status.success(), "{program} {args}");
    };
    let here = |args: &str| run("ip", args);
    let there = |args: &str| run("nsenter", &format!("--net=/proc/{pid}/ns/net ip {args}"));
    here(&format!(
        "link add {cable} type veth peer name eth0 netns {pid}"
    ));
    here(&format!("address add {net}.1/30 dev {cable}"));
    here(&format!("link set {cable} up"));
    there(&format!("address add {net}.2/30 dev eth0"));
    there("link set eth0 up");
    format!("{net}.2")
}
