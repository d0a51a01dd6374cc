//! The layer below every client: counts what is sent, and lets nothing through that a plan must not do.
//!
//! A read-only client passes `GET` and requests with `dryRun=All`. Whatever could reach into a process (`exec`, `attach`,
//! `portforward`, `proxy`, any protocol upgrade) is refused too, with whatever method, except for an exec that was granted
//! as an observation: the caller marks that request with [`Observed`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, header};
use tower::{BoxError, Layer, Service};

/// Marks an exec request as an observation.
#[derive(Debug, Clone, Copy)]
pub struct Observed;

/// A request that a read-only client did not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused before it was sent: {method} {path} could change something, and this is read only")]
pub struct Refused {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
}

/// What went through the gates of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many requests were sent: by method, with ` dry-run` or ` exec` behind it where they are that.
    pub sent: BTreeMap<String, u64>,
    /// How many a read-only client refused. Anything but 0 is a defect of this program.
    pub refused: u64,
}

/// Counters that gates share.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<Counts>>);

impl Traffic {
    /// The counts up to now.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<B>(&self, request: &Request<B>, passed: bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed {
            let kind = match () {
                () if is_dry_run(request) => " dry-run",
                () if reaches_into_process(request) => " exec",
                () => "",
            };
            *counts.sent.entry(format!("{}{kind}", request.method())).or_default() += 1;
        } else {
            counts.refused += 1;
        }
    }
}

/// Puts a gate below a client.
#[derive(Debug, Clone)]
pub struct GateLayer {
    read_only: bool,
    traffic: Traffic,
}

impl GateLayer {
    /// A gate that lets observations through alone.
    pub fn read_only(traffic: Traffic) -> Self {
        Self { read_only: true, traffic }
    }

    /// A gate that only counts.
    pub fn read_write(traffic: Traffic) -> Self {
        Self { read_only: false, traffic }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gate { rule: self.clone(), inner }
    }
}

/// The service that [`GateLayer`] makes.
#[derive(Debug, Clone)]
pub struct Gate<S> {
    rule: GateLayer,
    inner: S,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let passed = !self.rule.read_only || only_looks(&request);
        self.rule.traffic.note(&request, passed);
        if !passed {
            let refused = Refused { method: request.method().to_string(), path: request.uri().path().to_owned() };
            return Box::pin(async move { Err(refused.into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

fn only_looks<B>(request: &Request<B>) -> bool {
    if reaches_into_process(request) {
        return request.method() == Method::GET
            && subresource(request.uri().path()) == Some("exec")
            && request.extensions().get::<Observed>().is_some();
    }
    request.method() == Method::GET || is_dry_run(request)
}

/// Whether `dryRun` is there and says `All` each time.
fn is_dry_run<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let mut said = query.split('&').filter(|pair| pair.split('=').next() == Some("dryRun")).peekable();
    said.peek().is_some() && said.all(|pair| pair == "dryRun=All")
}

fn reaches_into_process<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE)
        || matches!(subresource(request.uri().path()), Some("exec" | "attach" | "portforward" | "proxy"))
}

/// The subresource in `/api/v1/[namespaces/NAMESPACE/]{pods,services,nodes}/NAME/SUBRESOURCE[/...]`.
fn subresource(path: &str) -> Option<&str> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).skip(2);
    let mut kind = parts.next()?;
    if kind == "namespaces" {
        parts.next()?;
        kind = parts.next()?;
    }
    if !matches!(kind, "pods" | "services" | "nodes") {
        return None;
    }
    parts.next()?;
    parts.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    async fn passes(layer: &GateLayer, method: &str, uri: &str, observed: bool) -> bool {
        let service = layer.layer(tower::service_fn(|_: Request<()>| async { Ok::<_, BoxError>(()) }));
        let mut request = Request::builder().method(method).uri(uri).body(()).expect("is a request");
        if observed {
            request.extensions_mut().insert(Observed);
        }
        match service.oneshot(request).await {
            Ok(()) => true,
            Err(error) => {
                assert!(error.downcast_ref::<Refused>().is_some_and(|r| r.method == method), "{error}");
                false
            }
        }
    }

    #[tokio::test]
    async fn a_read_only_client_lets_only_looks_through() {
        let traffic = Traffic::default();
        let gate = GateLayer::read_only(traffic.clone());
        let pod = "/api/v1/namespaces/d/pods/p";
        for (method, uri, observed, expected) in [
            ("GET", pod.to_owned(), false, true),
            ("GET", format!("{pod}/log?tailLines=3"), false, true),
            ("GET", "/api/v1/namespaces/d/configmaps/exec".to_owned(), false, true),
            ("PATCH", format!("{pod}?fieldManager=x&dryRun=All"), false, true),
            ("DELETE", format!("{pod}?dryRun=All"), false, true),
            ("GET", format!("{pod}/exec?command=ls"), true, true),
            ("GET", format!("{pod}/exec?command=ls"), false, false),
            ("POST", format!("{pod}/exec?command=ls"), true, false),
            ("POST", format!("{pod}/exec?command=ls&dryRun=All"), false, false),
            ("GET", format!("{pod}/attach"), true, false),
            ("GET", format!("{pod}/portforward"), true, false),
            ("GET", format!("{pod}/proxy/admin/delete"), false, false),
            ("GET", "/api/v1/nodes/n/proxy/run/d/p/c?cmd=ls".to_owned(), false, false),
            ("PATCH", pod.to_owned(), false, false),
            ("PATCH", format!("{pod}?dryRun=None"), false, false),
            ("PATCH", format!("{pod}?dryRun=All&dryRun=None"), false, false),
            ("PATCH", format!("{pod}?xdryRun=All"), false, false),
            ("POST", format!("{pod}/eviction"), false, false),
            ("PUT", pod.to_owned(), false, false),
            ("DELETE", pod.to_owned(), false, false),
        ] {
            assert_eq!(passes(&gate, method, &uri, observed).await, expected, "{method} {uri}");
        }
        let counts = traffic.counts();
        assert_eq!(counts.refused, 14);
        assert_eq!(counts.sent["GET"], 3);
        assert_eq!(counts.sent["PATCH dry-run"], 1);
        assert_eq!(counts.sent["GET exec"], 1);
    }

    #[tokio::test]
    async fn a_read_write_client_counts() {
        let traffic = Traffic::default();
        let gate = GateLayer::read_write(traffic.clone());
        assert!(passes(&gate, "DELETE", "/api/v1/namespaces/d", false).await);
        assert_eq!(traffic.counts(), Counts { sent: BTreeMap::from([("DELETE".to_owned(), 1)]), refused: 0 });
    }
}
