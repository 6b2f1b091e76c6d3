//! What the agent answers over HTTP: short texts, to whoever asks. Nothing can be changed by it.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, time::sleep};

/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// A text and its kind.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer of `kind`, such as `text/plain`.
pub(crate) fn answer(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Listens at `address`; all addresses of a machine without IPv6 are those of IPv4.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Answers each request for a path, for as long as this is polled.
pub(crate) async fn serve(
    listener: TcpListener,
    answer: impl Fn(&str) -> Answer + Clone + Send + 'static,
) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, most likely: wait for some to be closed.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(request.uri().path());
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async {
            // What goes wrong with a connection is the client's affair.
            let _ = connection.await;
        });
    }
}
