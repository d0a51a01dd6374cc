//! From a kubeconfig to two clients over one pool of connections: one that only looks, one that acts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{BoxError, Service, ServiceBuilder};

use crate::access::{Dial, Stream};
use crate::gate::{GateLayer, Traffic};
use crate::tls;

/// TCP, TLS and what lies between; a LAN needs milliseconds, a sleeping disk on the way some seconds.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// An idle connection is dropped before servers and NAT tables do it.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// The two clients of a cluster.
pub(crate) struct Clients {
    /// Cannot change anything.
    pub(crate) look: Client,
    /// Can.
    pub(crate) act: Client,
}

/// Builds the clients. Blocks where the kubeconfig names a program that gives credentials. Connects nowhere yet.
pub(crate) fn clients(config: &Config, via: Option<Arc<dyn Dial>>, traffic: &Traffic) -> Result<Clients, kube::Error> {
    if let Some(dial) = via {
        return over(config, Dialer(dial), traffic);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(IDLE_LIMIT));
    match &config.proxy_url {
        None => over(config, tcp, traffic),
        Some(proxy) if proxy.scheme_str() == Some("socks5") => over(config, SocksV5::new(proxy.clone(), tcp), traffic),
        Some(proxy) if proxy.scheme_str() == Some("http") => over(config, Tunnel::new(proxy.clone(), tcp), traffic),
        Some(proxy) => Err(kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.clone()) }),
    }
}

fn over<C>(config: &Config, connector: C, traffic: &Traffic) -> Result<Clients, kube::Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + hyper_util_io::Both + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError> + Send + Sync + 'static,
{
    let tls = Patient(tls::https(config, connector)?);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_LIMIT)
        .build::<_, Body>(tls);
    let auth = config.auth_layer()?;
    let headers = config.extra_headers_layer()?;
    let client = |gate: GateLayer| {
        let service = ServiceBuilder::new()
            .layer(gate)
            .layer(config.base_uri_layer())
            .option_layer(auth.as_ref())
            .layer(&headers)
            .map_err(BoxError::from)
            .service(http.clone());
        Client::new(service, config.default_namespace.clone())
    };
    Ok(Clients {
        look: client(GateLayer::read_only(traffic.clone())),
        act: client(GateLayer::read_write(traffic.clone())),
    })
}

/// Names both halves of hyper's IO, which it keeps apart.
mod hyper_util_io {
    pub(crate) trait Both: hyper::rt::Read + hyper::rt::Write {}
    impl<T: hyper::rt::Read + hyper::rt::Write> Both for T {}
}

/// A connector that gives up.
#[derive(Clone)]
struct Patient<C>(C);

impl<C> Service<Uri> for Patient<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connection = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_LIMIT, connection).await {
                Ok(done) => done.map_err(Into::into),
                Err(_) => {
                    let text = format!("no connection within {} s", CONNECT_LIMIT.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
                }
            }
        })
    }
}

/// A connector over somebody else's connections.
#[derive(Clone)]
struct Dialer(Arc<dyn Dial>);

impl Service<Uri> for Dialer {
    type Response = TokioIo<Dialed>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = Arc::clone(&self.0);
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            Ok(TokioIo::new(Dialed(dial.dial(host, port).await?)))
        })
    }
}

struct Dialed(Box<dyn Stream>);

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Dialed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
