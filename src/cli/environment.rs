//! Variables that have this program's prefix but belong to no flag. Each gets a warning, because it may be misspelt.

use std::ffi::OsString;
use std::fmt;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;
use super::store::{OTHER_NAMES, PASSWORDS};

/// The prefix of every variable, except `HOST_IP` and `ETCD_HOST`, which are older than the program.
const PREFIX: &str = "DOCKER_REGISTER_";

/// The similarity, from 0 to 1, above which one name counts as a misspelling of another.
const ALIKE: f64 = 0.7;

/// A variable that is set but not read.
pub struct Unknown {
    name: String,
    /// The most similar variable that is read.
    meant: Option<String>,
}

/// The variables with this program's prefix that no flag reads.
pub fn unknown(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<Unknown> {
    let known = known();
    let unknown = variables.into_iter().filter_map(|(name, value)| {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        let rest = name.strip_prefix(PREFIX)?;
        let is_read = known.iter().any(|(_, variable)| *variable == name);
        (!is_read && !is_of_a_service(rest, &value)).then(|| Unknown {
            meant: meant(rest, &known),
            name: name.clone().into_owned(),
        })
    });
    unknown.collect()
}

/// The variables that are read, each under two names without the prefix: its flag's and its own. The names differ for
/// two of them.
fn known() -> Vec<(String, String)> {
    let without_flags = PASSWORDS.iter().chain(&OTHER_NAMES);
    let own_name = |variable: &&str| variable.trim_start_matches(PREFIX).to_owned();
    let mut known: Vec<(String, String)> = without_flags
        .map(|variable| (own_name(variable), (*variable).to_owned()))
        .collect();
    let command = Cli::command();
    for flag in command.get_subcommands().flat_map(Command::get_arguments) {
        let variable = flag
            .get_env()
            .map(|name| name.to_string_lossy().into_owned());
        if let (Some(variable), Some(long)) = (variable, Arg::get_long(flag)) {
            known.push((long.replace('-', "_").to_uppercase(), variable.clone()));
            known.push((variable.trim_start_matches(PREFIX).to_owned(), variable));
        }
    }
    known
}

/// The variable that was probably meant by a misspelt one.
fn meant(rest: &str, known: &[(String, String)]) -> Option<String> {
    let alike = known
        .iter()
        .map(|(name, variable)| (strsim::jaro(rest, name), variable));
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > ALIKE).then(|| best.1.clone())
}

/// Whether Kubernetes, or a Docker link, has set the variable for a service or container whose name begins with
/// `docker-register`.
fn is_of_a_service(rest: &str, value: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    let has = |pair: fn(&[&str]) -> bool| words.windows(2).any(pair);
    has(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]))
        || has(|pair| matches!(pair, [port, "TCP" | "UDP" | "SCTP"] if port.parse::<u16>().is_ok()))
        || (words.last() == Some(&"PORT") && value.contains("://"))
        || (rest == "NAME" && value.starts_with('/'))
        || rest.starts_with("ENV_")
}

impl fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` is set but not read: ", self.name)?;
        match &self.meant {
            Some(meant) => write!(formatter, "did you mean `{meant}`?"),
            None => formatter.write_str("`docker-register run --help` lists the variables"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        unknown(variables).iter().map(Unknown::to_string).collect()
    }

    #[test]
    fn a_variable_that_is_not_read_is_reported_with_the_one_that_was_meant() {
        let cases = [
            ("TLL", "did you mean `DOCKER_REGISTER_TTL`?"),
            ("LOGLEVEL", "did you mean `DOCKER_REGISTER_LOG_LEVEL`?"),
            ("HOST_IP", "did you mean `HOST_IP`?"),
            ("ETCD", "did you mean `ETCD_HOST`?"),
            ("ETCD_HOST", "did you mean `ETCD_HOST`?"),
            (
                "PASSWORD_FILE",
                "did you mean `DOCKER_REGISTER_ETCD_PASSWORD_FILE`?",
            ),
            ("FOO", "`docker-register run --help` lists the variables"),
        ];
        for (rest, then) in cases {
            let name = format!("{PREFIX}{rest}");
            let wanted = format!("`{name}` is set but not read: {then}");
            assert_eq!(said(&[(&name, "1")]), [wanted]);
        }
    }

    #[test]
    fn variables_that_are_read_are_known() {
        for (_, variable) in known() {
            assert_eq!(said(&[(&variable, "1")]), [""; 0]);
        }
        assert_eq!(said(&[("DOCKER_REGISTER", "1"), ("PATH", "/bin")]), [""; 0]);
    }

    #[test]
    fn variables_that_orchestrators_set_are_not_reported() {
        let set = [
            ("DOCKER_REGISTER_SERVICE_HOST", "10.0.0.11"),
            ("DOCKER_REGISTER_SERVICE_PORT", "8080"),
            ("DOCKER_REGISTER_SERVICE_PORT_METRICS", "8080"),
            ("DOCKER_REGISTER_PORT", "tcp://10.0.0.11:8080"),
            ("DOCKER_REGISTER_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
            ("DOCKER_REGISTER_PORT_8080_TCP_ADDR", "10.0.0.11"),
            ("DOCKER_REGISTER_METRICS_PORT_53_UDP_PROTO", "udp"),
            ("DOCKER_REGISTER_METRICS_SERVICE_HOST", "10.0.0.11"),
            ("DOCKER_REGISTER_NAME", "/web/docker-register"),
            ("DOCKER_REGISTER_ENV_PATH", "/bin"),
        ];
        assert_eq!(said(&set), [""; 0]);
        // These look similar, but are a user's mistakes.
        assert_eq!(said(&[("DOCKER_REGISTER_ETCD_PORT", "4001")]).len(), 1);
        assert_eq!(said(&[("DOCKER_REGISTER_NAME", "web")]).len(), 1);
    }
}
