//! Explains why a certificate is not trusted.

use rustls::CertificateError;

use super::text::quote;

/// The most names of a certificate in a message.
const NAMES: usize = 8;

/// Explains an error about a certificate, which `whose` names. `signed` goes on after "is not signed", with the remedy;
/// `wrong_name` is the remedy if the certificate is for other names.
pub fn explain(whose: &str, error: &CertificateError, signed: &str, wrong_name: &str) -> String {
    match error {
        // A CA that was created again has the old name and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("{whose} is not signed {signed}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{whose} has expired: renew it, or correct this host's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{whose} is not valid yet: correct this host's clock")
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names = presented.iter().take(NAMES).map(|name| bare(name));
            let mut names: Vec<String> = names.collect();
            match presented.len() {
                0 => names.push("no name at all".to_owned()),
                1..=NAMES => {}
                _ => names.push("…".to_owned()),
            }
            let names = names.join(", ");
            let expected = quote(&expected.to_str());
            format!("{whose} is for {names} and not for {expected}: {wrong_name}")
        }
        error => format!("{whose} cannot be trusted: {error}"),
    }
}

/// A name in a certificate, which rustls gives with its kind around it.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    quote(inner.trim_matches(['"', ')']))
}
