//! TLS towards an API server, also with the client certificates that microk8s hands out.
//!
//! Since 1.34 `microk8s config` gives a client certificate of X.509 version 1 (canonical/microk8s#5447), as does everybody who
//! signs with OpenSSL 3 and no extensions. API servers take it, and rustls refuses to load it. A client does not verify its own
//! certificate, so it is handed on as it is. Certificates of servers are verified as ever.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use kube::Config;
use kube::client::ConfigExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use secrecy::ExposeSecret as _;
use tower::Service;

/// Adds TLS to a connector, as the kubeconfig wants it.
///
/// # Errors
///
/// What is wrong with certificates and keys of the kubeconfig.
pub(crate) fn https<C>(config: &Config, connector: C) -> Result<HttpsConnector<C>, kube::Error>
where
    C: Service<Uri>,
{
    let Some(identity) = old_identity(config) else { return config.rustls_https_connector_with_connector(connector) };
    let mut rest = config.clone();
    rest.auth_info.client_certificate = None;
    rest.auth_info.client_certificate_data = None;
    rest.auth_info.client_key = None;
    rest.auth_info.client_key_data = None;
    let mut tls = rest.rustls_client_config()?;
    tls.client_auth_cert_resolver = Arc::new(identity);
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone())
            .map_err(|error| kube::Error::Service(format!("tls-server-name {name:?}: {error}").into()))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(connector))
}

/// Client certificate and key where rustls would refuse to load them for the certificate's age; none for all others, and where
/// something else is wrong with them, which kube says.
fn old_identity(config: &Config) -> Option<SingleCertAndKey> {
    let user = &config.auth_info;
    if user.exec.is_some() {
        return None;
    }
    let certificate = load(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().ok()?;
    if !is_version_1(chain.first()?) {
        return None;
    }
    let key = load(user.client_key_data.as_ref().map(|secret| secret.expose_secret()), user.client_key.as_deref())?;
    let key = PrivateKeyDer::from_pem_slice(&key).ok()?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
    Some(CertifiedKey::new(chain, key).into())
}

fn load(data: Option<&str>, file: Option<&str>) -> Option<Vec<u8>> {
    match (data, file) {
        (Some(data), _) => STANDARD.decode(data.trim()).ok(),
        (None, Some(file)) => std::fs::read(file).ok(),
        (None, None) => None,
    }
}

/// Whether a certificate says no version, which means 1: `SEQUENCE { SEQUENCE { [0] version OPTIONAL, ... } ... }`.
pub(crate) fn is_version_1(der: &[u8]) -> bool {
    const VERSION: u8 = 0xa0;
    let to_be_signed = inside(der).and_then(inside);
    to_be_signed.and_then(<[u8]>::first).is_some_and(|tag| *tag != VERSION)
}

/// What is in a `SEQUENCE`, and all that follows it.
fn inside(der: &[u8]) -> Option<&[u8]> {
    let [0x30, length, rest @ ..] = der else { return None };
    // The long form of a length says in how many bytes it stands.
    let skip = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    rest.get(skip..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_certificate_is_read() {
        // Version 3 begins with [0] { INTEGER 2 }, version 1 with the serial number.
        assert!(!is_version_1(&[0x30, 0x09, 0x30, 0x07, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01]));
        assert!(is_version_1(&[0x30, 0x06, 0x30, 0x04, 0x02, 0x01, 0x07, 0x30]));
        assert!(is_version_1(&[0x30, 0x82, 0x01, 0x00, 0x30, 0x81, 0xf0, 0x02, 0x01]));
        assert!(!is_version_1(&[0x30, 0x82, 0x01, 0x00, 0x30, 0x81, 0xf0, 0xa0, 0x03]));
        for broken in [&[][..], &[0x30], &[0x30, 0x85], &[0x02, 0x01, 0x01], &[0x30, 0x02, 0x30, 0x00]] {
            assert!(!is_version_1(broken), "{broken:?}");
        }
    }
}
