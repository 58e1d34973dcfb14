//! Waiting for the client: bytes, silence, the end of the body, or somebody who wants it closed.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kinora_upload_engine::write::{Cause, Event};
use tokio::time::Instant;

use super::{Ended, IDLE, IDLE_UNDER_PRESSURE, Pipe, RATE_BYTES, RATE_WINDOW};
use crate::budget::PRESSURE;
use crate::drive::Ram;

impl Pipe {
    /// Waits for the next thing to happen: bytes, a stored part, silence, or the end.
    pub(super) async fn receive(&mut self) {
        let begun = Instant::now();
        // A client that pauses gives its memory to those who wait for it.
        let idle = if self.driver.app.budget.is_pressed() {
            IDLE_UNDER_PRESSURE
        } else {
            IDLE
        };
        let received = tokio::select! {
            biased;
            Some(answer) = self.calls.next(), if !self.calls.is_empty() => {
                self.step(Event::Answer(answer));
                return;
            }
            () = self.place.asked() => return self.close(Cause::Asked),
            () = self.driver.app.closing.cancelled() => return self.close(Cause::Asked),
            received = tokio::time::timeout(idle, self.incoming.stream.next()) => received,
        };
        self.waited += begun.elapsed();
        self.silent += begun.elapsed();
        match received {
            Ok(item) => {
                self.silent = Duration::ZERO;
                self.received(item).await;
            }
            // What has a checksum cannot be closed in the middle: nothing of it would count.
            Err(_) if self.incoming.check.is_none() => self.close(Cause::Idle),
            Err(_) if self.too_slow() => self.close(Cause::Client),
            // But its memory is not kept from those who wait for it.
            Err(_) if self.silent >= PRESSURE && self.driver.app.budget.is_pressed() => {
                self.no_memory = true;
                self.close(Cause::Client);
            }
            Err(_) => {}
        }
    }

    async fn received(&mut self, item: Option<Result<Bytes, axum::Error>>) {
        match item {
            Some(Ok(chunk)) => {
                self.window_bytes += chunk.len() as u64;
                self.driver
                    .app
                    .metrics
                    .received_bytes
                    .inc_by(chunk.len() as u64);
                self.chunk = chunk;
                if self.too_slow() {
                    self.close(Cause::Client);
                } else if !self.take_memory().await {
                    self.no_memory = self.incoming.check.is_some();
                    // Give back what is held; the chunk goes on when there is room.
                    self.close(if self.no_memory {
                        Cause::Client
                    } else {
                        Cause::Idle
                    });
                }
            }
            Some(Err(error)) => {
                tracing::debug!(upload = %self.driver.id, %error, "the client went away");
                self.ended = Ended::Broken;
            }
            None => self.ended = Ended::Well,
        }
    }

    /// Takes memory for the chunk that came; false after 5 s without. Parts of this body go on meanwhile: theirs may be
    /// the memory that is waited for.
    async fn take_memory(&mut self) -> bool {
        let budget = self.driver.app.budget.clone();
        let mut held = std::mem::take(&mut self.held);
        let granted = {
            // One wish to its end: one that is dropped is given up.
            let mut take = pin!(budget.take(&mut held, self.chunk.len()));
            loop {
                tokio::select! {
                    biased;
                    Some(answer) = self.calls.next(), if !self.calls.is_empty() => {
                        self.step(Event::Answer(answer));
                    }
                    granted = &mut take => break granted,
                }
            }
        };
        self.held = held;
        granted
    }

    /// Below 16 KiB/s over 30 s of waiting for the client; our own pauses do not count.
    fn too_slow(&mut self) -> bool {
        if self.waited < RATE_WINDOW {
            return false;
        }
        self.waited = Duration::ZERO;
        std::mem::take(&mut self.window_bytes) < RATE_BYTES
    }

    /// Closed after silence: waits for the body to go on. False when this request is over.
    pub(super) async fn wait_for_more(&mut self) -> bool {
        self.kept = Ram::default();
        self.buffer_from = self.writer.pos();
        let _ = self.held.take();
        if self.chunk.is_empty() && matches!(self.ended, Ended::Not) {
            let item = loop {
                let begun = Instant::now();
                let patience = RATE_WINDOW.saturating_sub(self.waited).max(IDLE);
                let item = tokio::select! {
                    biased;
                    () = self.place.asked() => return false,
                    () = self.driver.app.closing.cancelled() => return false,
                    item = tokio::time::timeout(patience, self.incoming.stream.next()) => item,
                };
                self.waited += begun.elapsed();
                match item {
                    Ok(item) => break item,
                    Err(_) if self.too_slow() => return false,
                    // A window in which enough came is over: the silence counts in the next one.
                    Err(_) => {}
                }
            };
            match item {
                Some(Ok(chunk)) => {
                    self.window_bytes += chunk.len() as u64;
                    self.driver
                        .app
                        .metrics
                        .received_bytes
                        .inc_by(chunk.len() as u64);
                    self.chunk = chunk;
                }
                Some(Err(_)) => self.ended = Ended::Broken,
                None => self.ended = Ended::Well,
            }
            if self.too_slow() {
                return false;
            }
        }
        let length_follows = self.incoming.carries_all && self.writer.document().0.length.is_none();
        match self.ended {
            Ended::Broken => return false,
            Ended::Well if !length_follows => return false,
            Ended::Well | Ended::Not => {}
        }
        while !self
            .driver
            .app
            .budget
            .take(&mut self.held, self.chunk.len())
            .await
        {
            if self.stops() {
                return false;
            }
        }
        self.cause = None;
        self.step(Event::Resume);
        true
    }
}
