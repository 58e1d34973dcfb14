//! What a connection costs while its request waits for a body: the state of futures, which each of thousands of stalled
//! clients holds. A call that is not in a box has its room in all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{append, count, create, gate, linger, one_upload, uploads_root};
use crate::app::App;
use crate::serve::Parting;

/// Bytes of the connection, of all layers, of the handler and of its task together.
const MOST: usize = 12 << 10;

/// Size of what a function returns, without calling it.
fn returned<A, R>(_: impl FnOnce(A) -> R) -> usize {
    size_of::<R>()
}

type Passed = (Arc<App>, Request, Next);

#[test]
fn a_request_that_waits_for_its_body_has_little_room() {
    let conn = |(stream, peer, router, end): (TcpStream, SocketAddr, _, CancellationToken)| {
        crate::serve::converse(stream, peer, router, Parting::at(end), Duration::MAX)
    };
    let layers = [
        returned(|(request, next): (Request, Next)| crate::trace::traced(request, next)),
        returned(|(request, next): (Request, Next)| super::answer_always(request, next)),
        returned(|(app, request, next): Passed| linger::linger(State(app), request, next)),
        returned(|(app, request, next): Passed| count(State(app), request, next)),
        returned(|(app, request, next): Passed| gate::gate(State(app), request, next)),
    ];
    let connection = returned(conn) + layers.iter().sum::<usize>();
    let creating =
        returned(|(app, request): (Arc<App>, Request)| uploads_root(State(app), request));
    let patching = returned(|(app, id, request): (Arc<App>, String, Request)| {
        one_upload(State(app), Ok(Path(id)), request)
    });
    for (what, parts) in [
        ("a create", [connection, creating, create::room()]),
        ("a PATCH", [connection, patching, append::room()]),
    ] {
        let size: usize = parts.iter().sum();
        println!("{what}: {size} bytes, {parts:?}");
        assert!(size <= MOST, "{what}: {size} bytes, {parts:?}");
    }
}
