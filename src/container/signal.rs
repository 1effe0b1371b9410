//! Signals by name and number, on Linux, in the forms in which Docker writes stop signals and events.

pub const KILL: u8 = 9;
/// The default stop signal.
pub const TERM: u8 = 15;

/// The number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
pub fn number(signal: &str) -> Option<u8> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: u8 = 34;
    const RTMAX: u8 = 64;
    if let Ok(number) = signal.parse() {
        return Some(number);
    }
    let name = signal.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(above) = name.strip_prefix("RTMIN") {
        return RTMIN.checked_add(above.trim_start_matches('+').parse().unwrap_or(0));
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        return RTMAX.checked_sub(below.trim_start_matches('-').parse().unwrap_or(0));
    }
    let place = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(place + 1).ok()
}
