//! The client's settings of TLS.

use etcd_client::{Identity, TlsOptions};

use super::WORDS;
use crate::store::Tls;

/// The options of one connection. An error names the file that cannot be used.
pub fn options(tls: &Tls) -> anyhow::Result<TlsOptions> {
    let mut options = match tls.read_authorities(&WORDS)? {
        Some(authorities) => TlsOptions::new().trust_anchors(authorities),
        None => TlsOptions::new().with_native_roots(),
    };
    if let Some(own) = tls.read_identity(&WORDS)? {
        options = options.identity(Identity::from_pem(own.chain, own.key));
    }
    if let Some(name) = &tls.server_name {
        options = options.domain_name(name);
    }
    Ok(options)
}
